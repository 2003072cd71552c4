import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { createLogger, reopenLog, silentLogger } from '../../src/runtime/logger.ts'
import { eventually } from '../fakes/eventually.ts'

const bin = join(import.meta.dirname, '../../bin/spire-server')

void t.test('a log file that was moved aside is opened anew', async t => {
  const folder = t.testdir({})
  const file = join(folder, 'log')
  const log = createLogger({ level: 'info', file, format: 'text' })
  t.equal((await stat(file)).mode & 0o777 & ~process.umask(), 0o640 & ~process.umask(), 'its group may read it, nobody else')
  log.info('first')
  await rename(file, `${file}.1`)
  log.info('second')
  t.ok(reopenLog(log))
  log.child({ call: 7 }).info('third')
  t.match(await readFile(`${file}.1`, 'utf8'), /first\n.*second\n$/)
  t.match(await readFile(file, 'utf8'), /^time=\S+ level=info msg=third call=7\n$/)
  await rename(file, `${file}.2`)
  // A folder lies where the file should be: root may write anywhere else.
  const where = join(folder, 'x')
  const other = createLogger({ level: 'info', file: join(where, 'log') })
  await rename(where, `${where}.1`)
  await writeFile(where, '')
  t.throws(() => reopenLog(other), { code: 'ENOTDIR' })
  t.throws(() => reopenLog(other), { code: 'ENOTDIR' })
  other.info('still here')
  t.match(await readFile(join(`${where}.1`, 'log'), 'utf8'), /still here/, 'until then lines go where they went')
  t.notOk(reopenLog(silentLogger), 'a log that is no file has nothing to open')
})

void t.test('SIGUSR2 opens the log file anew, SIGUSR1 opens no debugger, SIGTERM ends it well: SPIRE\'s signals', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-signals-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'server.log')
  await writeFile(join(folder, 'server.conf'), `server {
    trust_domain = "example.org"
    bind_address = "127.0.0.1"
    bind_port = 0
    data_dir = "${folder}"
    socket_path = "${folder}/api.sock"
    log_file = "${file}"
  }`)
  const server = spawn(bin, ['run', '-config', join(folder, 'server.conf')], { stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(() => server.kill('SIGKILL'))
  let stderr = ''
  server.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  const read = (path: string) => readFile(path, 'utf8').catch(() => '')
  await eventually('it runs', async () => (await read(file)).includes('server is running'), 60_000)
  server.kill('SIGUSR1')
  await rename(file, `${file}.1`)
  server.kill('SIGUSR2')
  await eventually('the file is there again', async () => (await read(file)).includes('opened anew'), 60_000)
  server.kill('SIGTERM')
  t.same(await once(server, 'exit'), [0, null])
  t.match(await read(file), /server is stopping/)
  t.notMatch(await read(`${file}.1`), /stopping/)
  t.notMatch(stderr, /debugger|inspector/i, 'no debugger listens')
})
