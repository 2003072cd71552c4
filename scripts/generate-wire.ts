// Writes src/wire/generated from protos/ and from the Envoy tree of the dev dependency @grpc/grpc-js-xds.
// usage: node scripts/generate-wire.ts [--check]      --check: writes nothing, fails if what is committed differs
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { generateWire } from './wire/generate.ts'

const folder = join(import.meta.dirname, '..', 'src', 'wire', 'generated')
const files = generateWire()

if (process.argv.includes('--check')) {
  const differing = [...files].filter(([name, text]) => read(name) !== text).map(([name]) => name)
  const left = readdirSync(folder).filter(name => !files.has(name))
  if (differing.length + left.length > 0) {
    console.error(`src/wire/generated is not what protos/ say: ${[...differing, ...left].join(', ')}; run: npm run generate`)
    process.exit(1)
  }
} else {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  for (const [name, text] of files) writeFileSync(join(folder, name), text)
}

function read (name: string): string | undefined {
  try {
    return readFileSync(join(folder, name), 'utf8')
  } catch {
    return undefined
  }
}
