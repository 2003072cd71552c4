import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import type { Lab } from '../../labs/frame/lab.ts'
import { runLab, skippedCode } from '../../labs/frame/run-lab.ts'
import type { Stage } from '../../labs/frame/stage.ts'
import { isAlive } from './check-lab.ts'

const main = join(import.meta.dirname, '../../labs/main.ts')

/** Runs a lab made for a test. */
async function play (work: (stage: Stage) => Promise<void>, { needs = [] as Lab['needs'], signal = new AbortController().signal } = {}) {
  let output = ''
  const lab: Lab = { title: 'a lab', needs, proof: 'test', play: work }
  const outcome = await runLab('example', lab, { environment: process.env, signal, out: text => { output += text } })
  return { ...outcome, output }
}

await t.test('commands and what they print are shown and kept', async t => {
  const { code, steps, output } = await play(async stage => {
    stage.step('One')
    stage.set('WORD', "it's")
    t.equal(await stage.run('echo "$WORD"; echo more >&2'), "it's\nmore\n", 'both streams')
    await stage.run('false | cat', { status: 1 })
    await stage.run('test -z "$SPIFFE_ENDPOINT_SOCKET"')
    stage.check('it is so', true)
  })
  t.equal(code, 0, output)
  t.strictSame(steps.get('One'), [
    '$ export WORD="it\'s"', '$ echo "$WORD"; echo more >&2', "it's", 'more', '$ false | cat', '$ test -z "$SPIFFE_ENDPOINT_SOCKET"',
    'ok: it is so'
  ])
  t.match(output, /== One\n\$ export WORD/)
})

await t.test('what does not hold ends it with exit code 1, and says what and where', async t => {
  const failures: Record<string, (stage: Stage) => Promise<void>> = {
    'does not hold: two is one\nseen: 2': async stage => stage.check('two is one', false, 'seen: 2'),
    'exit status 3 instead of 0 of: exit 3': async stage => { await stage.run('exit 3') },
    'is not in:\nnothing': async stage => stage.checkMatch('there is something', 'nothing', /something/),
    'until it is there': async stage => { await stage.until('it is there', 'echo absent', /present/, 1) }
  }
  for (const [said, work] of Object.entries(failures)) {
    const { code, output, folder } = await play(async stage => {
      stage.step('The step')
      await work(stage)
    })
    t.equal(code, 1)
    t.ok(output.includes('failed: example: The step: ') && output.includes(said), output)
    t.ok(existsSync(join(folder, 'logs')), 'its logs are kept')
    rmSync(folder, { recursive: true })
  }
})

await t.test('a process that must go on and ends is told of, with its last words', async t => {
  const { code, output, folder } = await play(async stage => {
    const process = stage.start('short-lived', "sh -c 'echo last words; exit 1'")
    await process.ended().catch(() => {})
    await stage.until('it never does', 'true', /never/)
  })
  t.equal(code, 1)
  t.match(output, /short-lived has ended:\nlast words/)
  rmSync(folder, { recursive: true })
})

await t.test('what is missing skips it, and is said', async t => {
  const missing = { name: 'a thing', find: async () => { throw new Error('there is no thing here') } }
  const { code, output, reason } = await play(async () => { t.fail('it must not run') }, { needs: [missing] })
  t.equal(code, skippedCode)
  t.equal(reason, 'there is no thing here')
  t.match(output, 'skipped: example: there is no thing here')
})

await t.test('its processes end with it: one that was ended before, and one whose lab was stopped', async t => {
  const stop = new AbortController()
  const pids: number[] = []
  let folder = ''
  const work = async (stage: Stage) => {
    folder = stage.folder
    const [first, second] = [stage.start('first', 'sleep 600'), stage.start('second', 'sleep 600')]
    pids.push(first.pid, second.pid)
    await stage.stop(first)
    t.notOk(isAlive(first.pid))
    setImmediate(() => stop.abort(new Error('stopped')))
    await stage.run('sleep 600')
  }
  await t.rejects(play(work, { signal: stop.signal }), { message: 'stopped' })
  t.strictSame(pids.filter(isAlive), [])
  t.notOk(existsSync(folder))
})

await t.test('the program: help, a name that it does not know, Ctrl-C', { timeout: 240_000 }, async t => {
  const run = (...words: string[]) => spawnSync(process.execPath, [main, ...words], { encoding: 'utf8' })
  t.match(run('--help').stdout, /usage: npm run lab[^]*join +Install and join[^]*needs bash, openssl/)
  const unknown = run('nonsense')
  t.equal(unknown.status, 2)
  t.match(unknown.stderr, /there is no lab nonsense; there are: join/)
  t.equal(run('--nonsense').status, 2)
  // No terminal's process group: whoever gets the signal is the lab alone.
  const child = spawn(process.execPath, [main, 'join'], { stdio: ['ignore', 'pipe', 'inherit'] })
  let [output, interrupted] = ['', false]
  for await (const text of child.stdout.setEncoding('utf8')) {
    output += text
    // Once: a second one ends it without tidying up.
    if (!interrupted && output.includes('assay server run')) interrupted = child.kill('SIGINT')
  }
  if (child.exitCode === null) await once(child, 'exit')
  t.equal(child.exitCode, 130)
  const folder = /^in (.*)$/m.exec(output)?.[1] ?? ''
  t.ok(dirname(folder).length > 1)
  t.notOk(existsSync(folder))
})
