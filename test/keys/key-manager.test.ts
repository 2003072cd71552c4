import { spawn } from 'node:child_process'
import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { inspect } from 'node:util'
import { pino } from 'pino'
import t from 'tap'
import { DatabaseKeyManager } from '../../src/keys/database/database-key-manager.ts'
import { parseKeyEncryptionKey } from '../../src/keys/database/key-wrapping.ts'
import { LocalWrapping } from '../../src/keys/database/local-wrapping.ts'
import { openDiskKeyManager } from '../../src/keys/disk/disk-key-manager.ts'
import { diskKeyManagerPlugin } from '../../src/keys/disk/disk-plugin.ts'
import type { ManagedKey } from '../../src/keys/key-manager.ts'
import { createMemoryKeyManager } from '../../src/keys/memory/memory-key-manager.ts'
import { memoryKeyManagerPlugin } from '../../src/keys/memory/memory-plugin.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { keyTypes } from '../../src/x509/key-type.ts'
import { MemoryKeyRows } from '../fakes/shared-key-rows.ts'
import { data, isSignature, keyManagerContract } from './key-manager-contract.ts'

function pkcs8Of ({ privateKey }: { readonly privateKey: KeyObject }): Buffer {
  return privateKey.export({ format: 'der', type: 'pkcs8' })
}

keyManagerContract('memory', async () => createMemoryKeyManager())
keyManagerContract('disk', folder => openDiskKeyManager(join(folder, 'keys.json')))
keyManagerContract('database', () => DatabaseKeyManager.open(
  new MemoryKeyRows(), new LocalWrapping(parseKeyEncryptionKey(Buffer.alloc(32, 7))), { clock: systemClock, log: silentLogger }))

void t.test('the key file', async t => {
  await t.test('keeps keys through restarts, for us alone', async t => {
    const file = join(t.testdir({}), 'deep', 'er', 'keys.json')
    const made: ManagedKey[] = []
    {
      await using manager = await openDiskKeyManager(file)
      for (const type of keyTypes) made.push(await manager.generateKey(type, type))
    }
    t.equal(statSync(file).mode & 0o777, 0o600)
    t.equal(statSync(join(file, '..')).mode & 0o777, 0o700)
    t.strictSame(readdirSync(join(file, '..')), ['keys.json'], 'no temporary file is left')
    await using manager = await openDiskKeyManager(file)
    for (const key of made) {
      const found = manager.getKey(key.id) as ManagedKey
      t.match(found, { id: key.id, type: key.type })
      t.ok(isSignature(key, await found.sign(data, 'der'), 'der'), key.type)
    }
    await manager.deleteKey?.('ec-p256')
    t.equal((await openDiskKeyManager(file)).getKey('ec-p256'), undefined, 'a deleted key is gone from the disk too')
  })

  await t.test('reads what SPIRE\'s disk key manager writes', async t => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const der = privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64')
    const file = join(t.testdir({ 'keys.json': `{\n\t"keys": {\n\t\t"x509-CA-A": "${der}"\n\t}\n}` }), 'keys.json')
    const manager = await openDiskKeyManager(file)
    t.strictSame(Buffer.from(manager.getKey('x509-CA-A')?.publicKey as Uint8Array), publicKey.export({ format: 'der', type: 'spki' }))
  })

  await t.test('closes a file that others may read, and says so', async t => {
    const file = join(t.testdir({ 'keys.json': '{"keys":{}}' }), 'keys.json')
    t.not(statSync(file).mode & 0o077, 0)
    const lines: string[] = []
    await openDiskKeyManager(file, { log: pino({}, { write: line => { lines.push(line) } }) })
    t.equal(statSync(file).mode & 0o777, 0o600)
    t.match(lines.join(''), 'was open to other users')
    lines.length = 0
    await openDiskKeyManager(file, { log: pino({}, { write: line => { lines.push(line) } }) })
    t.strictSame(lines, [], 'nothing to say the second time')
  })

  await t.test('refuses whatever is not exactly a key file', async t => {
    const good = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const der = good.export({ format: 'der', type: 'pkcs8' })
    const jwk = (key: typeof good) => key.export({ format: 'jwk' })
    const mismatched = Buffer.from(der.toString('hex').replace(Buffer.from(jwk(good).x as string, 'base64url').toString('hex'),
      Buffer.from(jwk(other).x as string, 'base64url').toString('hex')), 'hex')
    const holding = (key: string) => JSON.stringify({ keys: { a: key } })
    const refused = {
      'nothing': '',
      'half a file': holding(der.toString('base64')).slice(0, 90),
      'not an object': '[]',
      'no keys': '{}',
      'keys as list': '{"keys":[]}',
      'another member': '{"keys":{},"more":1}',
      'a repeated ID': `{"keys":{"a":"${der.toString('base64')}","a":"${der.toString('base64')}"}}`,
      'a malformed ID': JSON.stringify({ keys: { 'a b': der.toString('base64') } }),
      'a number': '{"keys":{"a":1}}',
      'an empty key': holding(''),
      'a cut key': holding(der.subarray(0, 60).toString('base64')),
      'a longer key': holding(Buffer.concat([der, Buffer.from([0])]).toString('base64')),
      'loose base64': holding(`${der.toString('base64')} `),
      'a public key that does not fit': holding(mismatched.toString('base64')),
      'P-521': holding(pkcs8Of(generateKeyPairSync('ec', { namedCurve: 'P-521' })).toString('base64')),
      'RSA 1024': holding(pkcs8Of(generateKeyPairSync('rsa', { modulusLength: 1024 })).toString('base64')),
      'Ed25519': holding(pkcs8Of(generateKeyPairSync('ed25519')).toString('base64')),
      'too long': holding('A'.repeat(1024 * 1024))
    }
    t.not(mismatched.equals(der), true)
    const folder = t.testdir({})
    for (const [what, text] of Object.entries(refused)) {
      const file = join(folder, 'keys.json')
      writeFileSync(file, text, { mode: 0o600 })
      const error = await openDiskKeyManager(file).then(() => undefined, (error: Error) => error)
      t.match(error, { code: 'key_store_corrupt' }, what)
      t.notOk(inspect(error, { depth: 9 }).includes(der.toString('base64').slice(40, 80)), `${what}: the error shows no key`)
      t.equal(readFileSync(file, 'utf8'), text, `${what}: and the file is left as it is`)
    }
    mkdirSync(join(folder, 'directory'))
    await t.rejects(openDiskKeyManager(join(folder, 'directory')), { code: 'file_unusable' })
    symlinkSync('/dev/zero', join(folder, 'device'))
    await t.rejects(openDiskKeyManager(join(folder, 'device')), { code: 'file_unusable' }, 'a device is not read')
    writeFileSync(join(folder, 'file'), '')
    await t.rejects(openDiskKeyManager(join(folder, 'file', 'keys.json')), { code: 'file_unusable' }, 'a file where a folder must be')
  })

  await t.test('is not overwritten when another process has written it', async t => {
    const file = join(t.testdir({}), 'keys.json')
    const mine = await openDiskKeyManager(file)
    const theirs = await openDiskKeyManager(file)
    await mine.generateKey('a', 'ec-p256')
    await t.rejects(theirs.generateKey('a', 'ec-p256'), { code: 'key_store_changed' })
    t.equal(theirs.getKey('a'), undefined, 'a key that was not stored is not there')
    const key = await mine.generateKey('b', 'ec-p256')
    t.strictSame((await openDiskKeyManager(file)).getKey('b')?.publicKey, key.publicKey)
  })

  await t.test('a failed write keeps the old key', async t => {
    const folder = t.testdir({ inner: {} })
    const file = join(folder, 'inner', 'keys.json')
    const manager = await openDiskKeyManager(file)
    const key = await manager.generateKey('a', 'ec-p256')
    rmSync(join(folder, 'inner'), { recursive: true })
    await t.rejects(manager.generateKey('a', 'ec-p256'), { code: 'file_unusable' })
    t.strictSame(manager.getKey('a')?.publicKey, key.publicKey)
    mkdirSync(join(folder, 'inner'))
    t.not(await manager.generateKey('a', 'ec-p256'), undefined, 'and the next one can succeed')
  })

  await t.test('what a crash left is removed', async t => {
    const folder = t.testdir({
      '.keys.json.AAAAAAAAAAAA.tmp': 'half a key', '.keys.json.notes': 'mine', '.agent.json.AAAAAAAAAAAA.tmp': 'other'
    })
    await openDiskKeyManager(join(folder, 'keys.json'))
    t.strictSame(readdirSync(folder).toSorted(), ['.agent.json.AAAAAAAAAAAA.tmp', '.keys.json.notes'])
  })
})

void t.test('kill -9 while keys are written: never half a key, none lost', async t => {
  const folder = t.testdir({})
  const file = join(folder, 'keys.json')
  const program = join(import.meta.dirname, 'write-keys-forever.ts')
  let kills = 0
  for (let round = 0; round < 20; round++) {
    const child = spawn(process.execPath, [program, file], { stdio: ['ignore', 'pipe', 'inherit'] })
    const closed = once(child, 'close')
    const confirmed = new Map<string, string>()
    let last = ''
    let left = 1 + round * 3
    for await (const line of createInterface({ input: child.stdout })) {
      const [id, publicKey] = line.split(' ') as [string, string]
      confirmed.set(id, publicKey)
      last = id
      // At another point of the work each round.
      if (--left === 0) setTimeout(() => child.kill('SIGKILL'), round / 4)
    }
    const [, signal] = await closed as [number | null, string | null]
    if (signal === 'SIGKILL') kills++
    const manager = await openDiskKeyManager(file)
    // Keys are made in turn: the other slot's may have been replaced without a chance to say so.
    t.equal(Buffer.from(manager.getKey(last)?.publicKey ?? []).toString('base64'), confirmed.get(last), `round ${round}: the confirmed key`)
    t.ok([...confirmed.keys()].every(id => manager.getKey(id) !== undefined), 'no slot was lost')
    t.notOk(readdirSync(folder).some(name => name.endsWith('.tmp')), 'no temporary file is left')
  }
  t.equal(kills, 20, 'each round ended by a kill')
})

void t.test('as plugins', async t => {
  const dataDir = t.testdir({})
  const host = { log: silentLogger, dataDir }
  for (const [raw, file] of [[{}, 'keys.json'], [{ keys_path: join(dataDir, 'elsewhere.json') }, 'elsewhere.json']] as const) {
    await using disk = await diskKeyManagerPlugin.start(diskKeyManagerPlugin.config.parse(raw), host, new AbortController().signal)
    await disk.generateKey('a', 'ec-p256')
    t.ok(readdirSync(dataDir).includes(file), file)
  }
  for (const refused of [{ keys_path: '' }, { keys_path: 'x', key_path: 'y' }]) {
    t.notOk(diskKeyManagerPlugin.config.safeParse(refused).success, JSON.stringify(refused))
  }
  t.notOk(memoryKeyManagerPlugin.config.safeParse({ keys_path: 'x' }).success)
  await using memory = await memoryKeyManagerPlugin.start({}, undefined, new AbortController().signal)
  t.ok(await memory.generateKey('a', 'ec-p256'))
})
