// Runs one file of tests in a process of its own and reads what it says: TAP, by the library `tap`. `tap run` does the same, but it gives
// loaders of mocks, coverage and source maps to each file and to each Node process below it, and they cost up to half a second each time.
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline'

/** Below another process, and without a transpiler of its own. */
const libraryOptions = { TAP: '1', TAP_CHILD_ID: '0', TAP_JOB_ID: '0', TAP_BAIL: '0', TAP_TYPE_STRIP_ONLY: '1' }
/** For saying which test was running and what was open. */
const lastWordsMs = 5_000

/**
 * @param file path below `root`
 * @param options `timeoutSeconds`: unless the file sets another; `signal` ends it; `print` gets each line worth reading, the file's
 *   remarks too where `remarks` is true
 * @returns `counts` of assertions; `problem`: why the file failed, `skipped`: why it tests nothing
 */
export async function runTestFile (file, { root, env, timeoutSeconds, signal, remarks, print }) {
  // By this the library knows its parent, and tells it how long the file may take.
  const key = randomUUID()
  const child = spawn('node', ['--import=./test/fakes/seed-properties.ts', file], {
    cwd: root,
    env: { ...env, ...libraryOptions, TAP_CHILD_KEY: key, TAP_TIMEOUT: String(timeoutSeconds) },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc']
  })
  const closed = new Promise(resolve => {
    child.once('error', error => resolve(`did not start: ${error.message}`))
    child.once('close', (code, signal) => resolve(signal ?? (code === 0 ? undefined : `exit code ${code}`)))
  })
  const lines = createInterface({ input: child.stdout })
  let late = false
  let timer
  const allow = ms => {
    clearTimeout(timer)
    if (ms > 0) timer = setTimeout(end, ms)
  }
  const end = () => {
    late = true
    child.kill('SIGALRM')
    timer = setTimeout(() => {
      child.kill('SIGKILL')
      // A process below it may hold the other end.
      child.stdout.destroy()
      lines.close()
    }, lastWordsMs)
  }
  const stop = () => child.kill('SIGTERM')
  allow(timeoutSeconds * 1000)
  child.on('message', message => { if (!late && message?.key === key && Number.isFinite(message.setTimeout)) allow(message.setTimeout) })
  signal.addEventListener('abort', stop)

  const { counts, plan, results, failed } = await readResults(lines, { print, remarks })
  const ended = await closed
  clearTimeout(timer)
  signal.removeEventListener('abort', stop)
  const problem = late ? 'took too long' : ended ?? incompleteness({ plan, results, failed })
  return { counts, problem, skipped: problem === undefined && results === 0 ? plan.reason ?? 'no tests' : undefined }
}

/** What is wrong with a file whose process found nothing wrong. */
function incompleteness ({ plan, results, failed }) {
  if (plan === undefined) return 'ended without a plan'
  if (plan.tests !== results) return `${results} of ${plan.tests} tests`
  return failed > 0 ? 'failed' : undefined
}

async function readResults (lines, { print, remarks }) {
  const counts = { pass: 0, fail: 0, skip: 0 }
  // Of the file's own tests, not of those within them.
  let plan
  let results = 0
  let failed = 0
  let diagnosis = false
  let depth = 0
  for await (const line of lines) {
    const text = line.trimStart()
    const indent = line.length - text.length
    const result = /^(not ok|ok) \d+ - (.*)$/.exec(text)
    if (result !== null) {
      const [, verdict, title] = result
      const skipped = / # (SKIP|TODO)\b/.test(title)
      // A line that closes a group of sub-tests is not a test of its own.
      if (!/ # time=/.test(title)) counts[skipped ? 'skip' : verdict === 'ok' ? 'pass' : 'fail']++
      diagnosis = verdict === 'not ok' && !skipped
      depth = indent
      if (indent === 0) results++
      if (indent === 0 && diagnosis) failed++
      if (skipped || diagnosis) print(line)
    } else if (diagnosis && indent > depth) {
      print(line)
    } else if (text.startsWith('Bail out') || remarks && text.startsWith('#') && !text.startsWith('# Subtest')) {
      // What a long proof counted is worth more than that it passed.
      print(line)
    } else if (indent === 0) {
      const [, tests, reason] = /^1\.\.(\d+)(?: # (.*))?$/.exec(text) ?? []
      if (tests !== undefined) plan = { tests: Number(tests), reason }
    }
  }
  return { counts, plan, results, failed }
}
