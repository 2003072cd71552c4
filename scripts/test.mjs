// Runs the tests and prints one line per file, each failure with its diagnosis, each skip with its reason, and a count at the end.
// usage: node scripts/test.mjs [soak | explore] [--coverage] [file ...]
//   soak     the long proofs, test/**/*.soak.ts
//   explore  the tests that choose at random, with a new seed (ASSAY_SEED) in each of EXPLORE_ROUNDS (10), until one fails
import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { globSync, readFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const tapProgram = join(root, 'node_modules', '.bin', 'tap')
const flags = process.argv.slice(2).filter(argument => argument.startsWith('-'))
const [first, ...rest] = process.argv.slice(2).filter(argument => !argument.startsWith('-'))
const soak = first === 'soak'
const explore = first === 'explore'
const named = soak || explore || first === undefined ? rest : [first, ...rest]
const random = file => /from 'fast-check'|chooseSeed/.test(readFileSync(join(root, file), 'utf8'))
const all = () => globSync(soak ? 'test/**/*.soak.ts' : 'test/**/*.test.ts', { cwd: root }).toSorted()
const files = named.length > 0 ? named : explore ? all().filter(random) : all()
const options = [
  '--reporter=tap',
  `--jobs=${soak ? 1 : 2}`,
  `--timeout=${soak ? 1800 : 300}`,
  ...(flags.includes('--coverage') ? ['--no-disable-coverage', '--coverage-report=text'] : [])
]

const rounds = explore ? Number(process.env.EXPLORE_ROUNDS ?? 10) : 1
for (let round = 1; round <= rounds && !process.exitCode; round++) {
  const seed = explore ? String(randomInt(1, 2 ** 31)) : process.env.ASSAY_SEED
  if (explore) console.log(`# round ${round} of ${rounds}: ASSAY_SEED=${seed}`)
  process.exitCode = await run(seed)
}

async function run (seed) {
  // As npm does it: tests run on the project's Node, whatever else is on the path.
  const path = `${dirname(tapProgram)}${delimiter}${process.env.PATH ?? ''}`
  // Each of hundreds of processes would strip and compile the same modules again.
  const cache = join(root, 'node_modules', '.cache', 'assay', 'compile')
  const env = { NODE_COMPILE_CACHE: cache, ...process.env, PATH: path, ...(seed === undefined ? {} : { ASSAY_SEED: seed }) }
  const tap = spawn(tapProgram, ['run', ...options, ...files], { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] })
  const end = () => tap.kill('SIGTERM')
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, end)

  const totals = { pass: 0, fail: 0, skip: 0 }
  let diagnosis = false
  let depth = 0
  for await (const line of createInterface({ input: tap.stdout })) {
    const indent = line.length - line.trimStart().length
    const text = line.trimStart()
    const result = /^(not ok|ok) \d+ - (.*)$/.exec(text)
    if (result !== null) {
      const [, verdict, title] = result
      const skipped = / # (SKIP|TODO)\b/.test(title)
      // A line that closes a group of sub-tests is not a test of its own, but for the file's own line, which is printed.
      if (indent > 0 && !/ # time=/.test(title)) totals[skipped ? 'skip' : verdict === 'ok' ? 'pass' : 'fail']++
      diagnosis = verdict === 'not ok' && !skipped
      depth = indent
      if (indent === 0 || skipped || diagnosis) console.log(line)
    } else if (diagnosis && indent > depth) {
      console.log(line)
    } else if ((indent === 0 || soak) && /^(#|Bail out)/.test(text) && !/^# (Subtest|No coverage)/.test(text)) {
      // What a long proof counted is worth more than that it passed.
      console.log(line)
    }
  }
  const code = await new Promise(resolve => tap.once('close', (code, signal) => resolve(signal === null ? code : 1)))
  if (code !== 0 && totals.fail === 0) totals.fail = 1
  console.log(`${totals.pass} passed, ${totals.fail} failed, ${totals.skip} skipped`)
  return code
}
