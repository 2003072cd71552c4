import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { FakeAgent } from './fake-agent.ts'
import { FilesFolder } from './files-process.ts'

const patienceMs = 120_000

/** Writes down what it is told; ends with 5 when it is asked to. */
const program = (file: string) => ['-c', `
  trap 'echo hup >> "$0"' HUP
  trap 'echo renew >> "$0"' USR1
  trap 'echo term >> "$0"; exit 5' TERM
  echo started >> "$0"
  while :; do sleep 0.05; done
`, file]

void t.test('a program is started with the files, told of new ones, passed signals, and its exit code is ours', async t => {
  await using agent = await FakeAgent.start()
  const files = new FilesFolder(t, agent)
  const told = join(files.home, 'told')
  const port = await freePort()
  const running = files.start(t, {
    cmd: 'sh', cmd_args: program(told), renew_signal: 'SIGUSR1', exit_with_cmd: true,
    health_checks: { listener_enabled: true, bind_address: '127.0.0.1', bind_port: port }
  })
  const heard = (word: string) => eventually(`the program heard ${word}`, () =>
    existsSync(told) && readFileSync(told, 'utf8').includes(`${word}\n`), patienceMs)
  const ready = async () => (await fetch(`http://127.0.0.1:${port}/ready`)).status
  await running.logged('health checks are served')
  t.equal(await ready(), 500, 'not before there are files')
  t.notOk(existsSync(told), 'nor is it started')
  await agent.rotate()
  await heard('started')
  t.ok(files.readPair())
  await eventually('ready', async () => await ready() === 200, patienceMs)
  await agent.rotate()
  await heard('renew')
  process.kill(running.pid, 'SIGHUP')
  await heard('hup')
  t.equal(await running.stop(), 5, 'SIGTERM reaches it, and its exit code is passed on')
  t.equal(readFileSync(told, 'utf8'), 'started\nrenew\nhup\nterm\n')
})

void t.test('the end of the program: ours with exit_with_cmd, and else it is started again for the next files', async t => {
  await using agent = await FakeAgent.start()
  await agent.rotate()
  const files = new FilesFolder(t, agent)
  const ending = files.start(t, { cmd: 'sh', cmd_args: ['-c', 'exit 7'], exit_with_cmd: true })
  await ending.exited()
  t.equal(ending.exitCode, 7)
  const told = join(files.home, 'told')
  const running = files.start(t, { cmd: 'sh', cmd_args: ['-c', 'echo once >> "$0"', told] })
  const times = (count: number) => eventually(`it ran ${count} times`, () =>
    existsSync(told) && readFileSync(told, 'utf8') === 'once\n'.repeat(count), patienceMs)
  await times(1)
  await running.logged('the program has ended')
  await agent.rotate()
  await times(2)
  t.equal(await running.stop(), 0)
  const absent = files.start(t, { cmd: '/does/not/exist' })
  await eventually('it is told', () => absent.lines().some(line => line['code'] === 'reload_failed'), patienceMs)
  t.equal(await absent.stop(), 0, 'a program that cannot be started is tried again')
})

void t.test('a program that does not end is killed', async t => {
  await using agent = await FakeAgent.start()
  await agent.rotate()
  const files = new FilesFolder(t, agent)
  const deaf = join(files.home, 'deaf')
  const running = files.start(t, {
    cmd: 'sh', cmd_args: ['-c', 'trap "" TERM; echo yes > "$0"; while :; do sleep 0.05; done', deaf],
    exit_with_cmd: true, cmd_stop_timeout: '300ms'
  })
  await eventually('it hears nothing any more', () => existsSync(deaf), patienceMs)
  t.equal(await running.stop(), 137)
  t.match(running.log, /the program does not end, and is killed/)
})
