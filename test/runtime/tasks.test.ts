import t from 'tap'
import { isStop, runTasks } from '../../src/runtime/tasks.ts'

/** Lives until its signal aborts; tells when it ended. */
function untilStopped (ended: string[], name: string) {
  return (signal: AbortSignal) => new Promise<void>((_, reject) => {
    signal.addEventListener('abort', () => setImmediate(() => { ended.push(name); reject(signal.reason as Error) }), { once: true })
  })
}

void t.test('ends when all have ended', async t => {
  const ended: number[] = []
  await runTasks(new AbortController().signal, [1, 2].map(number => async () => { ended.push(number) }))
  t.strictSame(ended, [1, 2])
  await runTasks(new AbortController().signal, [])
})

void t.test('the first failure stops the siblings and is thrown once they have stopped', async t => {
  const ended: string[] = []
  const failure = new Error('first')
  await t.rejects(runTasks(new AbortController().signal, [
    untilStopped(ended, 'a'), async () => { throw failure }, untilStopped(ended, 'b')
  ]), failure)
  t.strictSame(ended, ['a', 'b'])
})

void t.test('a sibling that fails while it is stopped does not hide the first failure', async t => {
  await t.rejects(runTasks(new AbortController().signal, [
    signal => new Promise((_, reject) => { signal.addEventListener('abort', () => reject(new Error('second')), { once: true }) }),
    async () => { throw new Error('first') }
  ]), { message: 'first' })
})

void t.test('stopping from outside is no failure', async t => {
  const stop = new AbortController()
  const ended: string[] = []
  const running = runTasks(stop.signal, [untilStopped(ended, 'a'), untilStopped(ended, 'b')])
  stop.abort()
  await running
  t.strictSame(ended, ['a', 'b'])
})

void t.test('but failing while stopping is', async t => {
  const stop = new AbortController()
  const running = runTasks(stop.signal, [
    signal => new Promise((_, reject) => { signal.addEventListener('abort', () => reject(new Error('could not save')), { once: true }) })
  ])
  stop.abort()
  await t.rejects(running, { message: 'could not save' })
})

void t.test('what counts as a stop', async t => {
  const reason = new Error('reason')
  const aborted = AbortSignal.abort(reason)
  t.ok(isStop(reason, aborted))
  t.ok(isStop(new DOMException('x', 'AbortError'), aborted))
  t.notOk(isStop(new Error('other'), aborted))
  t.notOk(isStop(reason, new AbortController().signal))
})
