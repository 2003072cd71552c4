// Runs the tests and prints one line per file, each failure with its diagnosis, each skip with its reason, and a count at the end.
// usage: node scripts/test.mjs [soak | explore] [--coverage] [file or folder ...]
//   soak     the long proofs, test/**/*.soak.ts
//   explore  the tests that choose at random, with a new seed (ASSAY_SEED) in each of EXPLORE_ROUNDS (10), until one fails
import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { globSync, readFileSync, statSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startsPrograms } from './starts-programs.mjs'
import { runTestFile } from './test-file.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const bin = join(root, 'node_modules', '.bin')
const flags = process.argv.slice(2).filter(argument => argument.startsWith('-'))
const [first, ...rest] = process.argv.slice(2).filter(argument => !argument.startsWith('-'))
const soak = first === 'soak'
const explore = first === 'explore'
const named = soak || explore || first === undefined ? rest : [first, ...rest]
const random = file => /from 'fast-check'|chooseSeed/.test(readFileSync(join(root, file), 'utf8'))
const below = folder => globSync(join(folder, soak ? '**/*.soak.ts' : '**/*.test.ts'), { cwd: root }).toSorted()
const isFolder = path => statSync(join(root, path), { throwIfNoEntry: false })?.isDirectory() === true
const all = () => below('test')
const files = named.length > 0 ? named.flatMap(path => isFolder(path) ? below(path) : path) : explore ? all().filter(random) : all()
const timeoutSeconds = soak ? 1800 : 300

const stopped = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stopped.abort())

const rounds = explore ? Number(process.env.EXPLORE_ROUNDS ?? 10) : 1
for (let round = 1; round <= rounds && !process.exitCode; round++) {
  const seed = explore ? String(randomInt(1, 2 ** 31)) : process.env.ASSAY_SEED
  if (explore) console.log(`# round ${round} of ${rounds}: ASSAY_SEED=${seed}`)
  process.exitCode = await (flags.includes('--coverage') ? runWithCoverage : run)(environment(seed))
}

function environment (seed) {
  return {
    // Each of hundreds of processes would strip and compile the same modules again.
    NODE_COMPILE_CACHE: join(root, 'node_modules', '.cache', 'assay', 'compile'),
    ...process.env,
    // As npm does it: tests run on the project's Node, whatever else is on the path.
    PATH: `${bin}${delimiter}${process.env.PATH ?? ''}`,
    ...(seed === undefined ? {} : { ASSAY_SEED: seed })
  }
}

async function run (env) {
  const totals = { pass: 0, fail: 0, skip: 0 }
  // Two that start programs leave two cores idle for a third of the time, and three would be in each other's way: beside them goes one that
  // stays in its own process.
  const { programs = [], alone = [] } = soak ? { programs: [...files] } : Object.groupBy(files, kind)
  const lanes = soak ? [[programs]] : [[programs, alone], [programs, alone], [alone]]
  let ended = 0
  const runLane = async queues => {
    for (let file; (file = queues.find(queue => queue.length > 0)?.shift()) !== undefined && !stopped.signal.aborted;) {
      const began = performance.now()
      // What two files say is not mixed; what one that runs alone says is worth reading while it runs.
      const kept = []
      const print = soak || files.length === 1 ? line => console.log(line) : line => kept.push(line)
      const options = { root, env, timeoutSeconds, signal: stopped.signal, remarks: soak, print }
      const { problem, skipped, counts } = await runTestFile(file, options)
      for (const line of kept) console.log(line)
      for (const count of Object.keys(totals)) totals[count] += counts[count]
      const verdict = `${problem === undefined ? 'ok' : 'not ok'} ${++ended} - ${file} #${skipped === undefined ? '' : ` SKIP ${skipped}`}`
      console.log(`${verdict} time=${Math.round(performance.now() - began)}ms ${problem ?? ''}`.trimEnd())
      if (problem !== undefined && counts.fail === 0) totals.fail++
      if (skipped !== undefined) totals.skip++
    }
  }
  await Promise.all(lanes.map(runLane))
  console.log(`${totals.pass} passed, ${totals.fail} failed, ${totals.skip} skipped`)
  return totals.fail > 0 || stopped.signal.aborted ? 1 : 0
}

function kind (file) { return startsPrograms(resolve(root, file)) ? 'programs' : 'alone' }

/** Slower: by `tap run`, whose loaders count what each process runs. */
async function runWithCoverage (env) {
  const options = [
    '--reporter=tap', `--jobs=${soak ? 1 : 2}`, `--timeout=${timeoutSeconds}`, '--no-disable-coverage', '--coverage-report=text'
  ]
  const tap = spawn(join(bin, 'tap'), ['run', ...options, ...files], { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] })
  stopped.signal.addEventListener('abort', () => tap.kill('SIGTERM'))
  return new Promise(resolve => tap.once('close', (code, signal) => resolve(signal === null ? code : 1)))
}
