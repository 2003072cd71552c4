import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { noEnvoy } from '../fakes/envoy.ts'
import { eventually } from '../fakes/eventually.ts'
import { postgresMissing } from '../fakes/postgres.ts'

const skip = postgresMissing() || noEnvoy()
const program = join(import.meta.dirname, '../../compose/local/main.ts')

t.test('the topology of compose.yaml as plain processes', { skip, timeout: 200_000 }, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'local-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  // PostgreSQL runs as another user, and must get to its folder in there.
  await chmod(folder, 0o711)

  await t.test('--once: a request crosses, a server is killed, requests go on, and nothing is left', async t => {
    const { output, closed } = start(folder, '--once')
    const [code] = await closed
    t.equal(code, 0, output())
    t.match(output(), 'starting PostgreSQL: a primary and a streaming replica')
    t.match(output(), /the workload saw +URI=spiffe:\/\/example\.org\/web +nothing: the request never reached it/)
    t.match(output(), /killed server \d[^]* requests meanwhile, 0 failed[^]*calling once more[^]*done; stopping everything/)
    t.same(await readdir(folder), [], 'no file is left')
    t.same(await processesOf(folder), [], 'no process is left')
  })

  await t.test('killed itself, it leaves no process behind', async t => {
    const { child, output, exit } = start(folder, '--once')
    await eventually('it to have started its servers', () => output().includes('registering web'), 90_000)
    t.ok((await processesOf(folder)).length >= 5, 'servers and databases run')
    child.kill('SIGKILL')
    await exit
    await eventually('all of them to end', async () => (await processesOf(folder)).length === 0)
  })
})

function start (folder: string, ...words: string[]) {
  const child = spawn(process.execPath, [program, ...words], { env: { ...process.env, TMPDIR: folder }, stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', chunk => { text += chunk })
  const ends = (event: 'exit' | 'close') => once(child, event) as Promise<[number | null]>
  // What it said last may come after its exit.
  return { child, output: () => text, exit: ends('exit'), closed: ends('close') }
}

/** Command lines of processes that were given a path in the folder. */
async function processesOf (folder: string): Promise<string[]> {
  const lines = await Promise.all((await readdir('/proc')).filter(name => /^\d+$/.test(name))
    .map(pid => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  return lines.map(line => line.replaceAll('\0', ' ')).filter(line => line.includes(folder))
}
