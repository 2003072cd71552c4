import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { KeyManager } from '../../src/keys/key-manager.ts'
import { pkcs11KeyManagerPlugin as plugin } from '../../src/keys/pkcs11/pkcs11-plugin.ts'
import { systemClock, type Clock } from '../../src/runtime/clock.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { MemoryKeyRows } from '../fakes/shared-key-rows.ts'
import { softhsmMissing, startSoftHsm } from '../fakes/softhsm.ts'
import { data, isSignature, keyManagerContract } from './key-manager-contract.ts'

const skip = softhsmMissing()
const hsm = skip === false ? startSoftHsm() : undefined
t.teardown(() => hsm?.[Symbol.dispose]())
const pinFile = join(t.testdir({ pin: `${hsm?.pin}\n`, wrong: '000000' }), 'pin')
const raw = { module_path: hsm?.modulePath ?? '/nowhere', token_label: hsm?.tokenLabel ?? 'none', pin_file: pinFile }

interface OpenOptions { readonly rows?: MemoryKeyRows, readonly clock?: Clock, readonly log?: ReturnType<typeof capturedLog>['log'] }

async function open (
  config: object = raw, { rows = new MemoryKeyRows(), clock = systemClock, log = capturedLog().log }: OpenOptions = {}
): Promise<KeyManager> {
  const host = { sharedKeys: rows, trustDomain: parseTrustDomain('example.org'), clock, log }
  return await plugin.start(plugin.config.parse(config), host, new AbortController().signal)
}

/** The processes that this one has started and that talk to a token. */
function tokenProcesses (): number[] {
  return readdirSync('/proc').filter(name => /^\d+$/.test(name)).map(Number).filter(pid => {
    try {
      const parent = /^\d+ \(.*\) \S (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1]
      return Number(parent) === process.pid && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('token-process')
    } catch {
      return false
    }
  })
}

keyManagerContract('SoftHSM', () => open(), { remote: true, skip })

void t.test('keys through restarts; the private half can neither be read nor taken out', { skip }, async t => {
  if (hsm === undefined) throw new Error('no token')
  const rows = new MemoryKeyRows()
  const first = await open(raw, { rows })
  const made = await first.generateKey('x509-CA-A', 'ec-p256')
  await first[Symbol.asyncDispose]()
  t.strictSame(tokenProcesses(), [], 'no process is left')
  await using second = await open(raw, { rows })
  t.ok(isSignature(made, await (second.getKey('x509-CA-A') as typeof made).sign(data, 'der'), 'der'))
  t.notMatch(Buffer.from(rows.rows.get('x509-CA-A') as Uint8Array).toString(), hsm.pin)
  for (const pid of tokenProcesses()) {
    const seen = ['cmdline', 'environ'].map(file => readFileSync(`/proc/${pid}/${file}`, 'latin1')).join()
    t.notMatch(seen, hsm.pin, 'the PIN is in no argument and no environment')
  }
})

void t.test('another tool sees what it should of our keys', { skip: skip !== false ? skip : opensc() }, async t => {
  await using manager = await open()
  await manager.generateKey('seen', 'ec-p256')
  const listed = execFileSync('pkcs11-tool', [
    '--module', raw.module_path, '--token-label', raw.token_label, '--login', '--pin', hsm?.pin as string,
    '--list-objects', '--type', 'privkey'
  ], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  const [ours] = listed.split('Private Key Object').filter(object => /example\.org-seen-/.test(object))
  t.match(ours, /Access:\s+sensitive, always sensitive, never extract/)
  t.match(ours, /Usage:\s+sign\n/)
})

void t.test('a module that hangs is one process less', { skip }, async t => {
  const clock = new ManualClock()
  await using manager = await open(raw, { clock })
  const key = await manager.generateKey('a', 'ec-p256')
  const [pid, ...others] = tokenProcesses()
  t.strictSame(others, [], 'what made the key has ended')
  process.kill(pid as number, 'SIGSTOP')
  const waiting = key.sign(data, 'der').then(() => undefined, (error: Error) => error)
  await clock.advance(10_000)
  t.match(await waiting, { code: 'key_service_unreachable', message: /within 10 s/ })
  await eventually('it is gone', () => !tokenProcesses().includes(pid as number))
  t.ok(isSignature(key, await key.sign(data, 'der'), 'der'), 'the next call has a new one')
})

void t.test('a module that crashes is noticed by nobody', { skip }, async t => {
  await using manager = await open()
  const key = await manager.generateKey('a', 'ec-p256')
  for (const pid of tokenProcesses()) process.kill(pid, 'SIGKILL')
  t.ok(isSignature(key, await key.sign(data, 'der'), 'der'))
})

void t.test('a key that was removed behind our back', { skip }, async t => {
  const rows = new MemoryKeyRows()
  await using manager = await open(raw, { rows })
  const key = await manager.generateKey('a', 'ec-p256')
  await using operator = await open(raw, { rows })
  await operator.deleteKey?.('a')
  await t.rejects(key.sign(data, 'der'), { code: 'key_service_key_gone' })
  t.equal(manager.getKey('a'), undefined)
})

void t.test('what is wrong is said, and a wrong PIN is tried once', { skip }, async t => {
  const { log, lines } = capturedLog()
  await using wrong = await open({ ...raw, pin_file: join(pinFile, '..', 'wrong') }, { log })
  await t.rejects(wrong.generateKey('a', 'ec-p256'), { code: 'key_service_refused', message: /refuses the PIN: C_Login/ })
  await t.rejects(wrong.generateKey('a', 'ec-p256'), { code: 'key_service_refused', message: /not tried again/ })
  t.notMatch(JSON.stringify(lines), /000000/)
  await using elsewhere = await open({ ...raw, token_label: 'another' })
  await t.rejects(elsewhere.generateKey('a', 'ec-p256'), { code: 'key_service_unreachable', message: /no slot holds .* "another"/ })
  await using none = await open({ ...raw, module_path: '/nowhere/module.so' })
  await t.rejects(none.generateKey('a', 'ec-p256'), { code: 'key_service_unreachable', message: /nowhere/ })
})

void t.test('configuration', async t => {
  const good = { module_path: '/a.so', token_label: 'b' }
  t.ok(plugin.config.safeParse(good).success)
  for (const refused of [{}, { ...good, module_path: 'a.so' }, { ...good, pin: '1' }, { ...good, token_label: 'x'.repeat(33) }]) {
    t.notOk(plugin.config.safeParse(refused).success, JSON.stringify(refused))
  }
  await t.rejects(open(good), { code: 'config_invalid', message: /ASSAY_PKCS11_PIN/ })
  await t.rejects(open({ ...good, pin_file: '/nowhere' }), { code: 'file_unusable' })
})

function opensc (): string | false {
  try {
    execFileSync('pkcs11-tool', ['--help'], { stdio: 'ignore' })
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' && 'pkcs11-tool is not on PATH: apt install opensc'
  }
}
