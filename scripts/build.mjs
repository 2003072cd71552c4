// Makes the publishable dist/: compiled JavaScript with its types and the files that code reads at run time.
// usage: node scripts/build.mjs
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, rmSync, statSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const src = join(root, 'src')
const dist = join(root, 'dist')

rmSync(dist, { recursive: true, force: true })
const tsc = join(root, 'node_modules', '.bin', 'tsc')
const { status, error } = spawnSync(tsc, ['-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
if (status !== 0) {
  process.stderr.write(`build: tsc failed${error === undefined ? '' : `: ${error.message}`}; run \`npm run check\`\n`)
  process.exit(1)
}
// Descriptors, SQL and the like: whatever is not compiled.
cpSync(src, dist, { recursive: true, filter: path => statSync(path).isDirectory() || extname(path) !== '.ts' })
const main = join(dist, 'cli', 'main.js')
if (!existsSync(main)) {
  process.stderr.write('build: tsc made no dist/cli/main.js; check rootDir in tsconfig.build.json\n')
  process.exit(1)
}
chmodSync(main, 0o755)
process.stdout.write('build: dist/ is ready; try it with `node dist/cli/main.js --version`\n')
