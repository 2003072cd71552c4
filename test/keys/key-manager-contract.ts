import { createPublicKey, verify, type KeyObject } from 'node:crypto'
import { inspect } from 'node:util'
import t from 'tap'
import type { KeyManager, ManagedKey } from '../../src/keys/key-manager.ts'
import { keyTypes } from '../../src/x509/key-type.ts'

export const data = Buffer.from('to be signed')

function publicKeyOf (key: ManagedKey): KeyObject {
  return createPublicKey({ key: Buffer.from(key.publicKey), format: 'der', type: 'spki' })
}

export function isSignature (key: ManagedKey, signature: Uint8Array, dsaEncoding: 'der' | 'ieee-p1363'): boolean {
  return verify(key.type === 'ec-p384' ? 'sha384' : 'sha256', data, { key: publicKeyOf(key), dsaEncoding }, signature)
}

/** What every key manager must do. */
export function keyManagerContract (title: string, open: (folder: string) => Promise<KeyManager>, { remote = false, skip = false }: {
  /** Signs elsewhere: not on this thread. */
  readonly remote?: boolean
  readonly skip?: string | false
} = {}): void {
  if (skip !== false) t.comment(`${title}: skipped: ${skip}`)
  void t.test(`${title}: what every key manager does`, { skip }, async t => {
    for (const type of keyTypes) {
      await t.test(`makes and uses ${type}`, async t => {
        await using manager = await open(t.testdir({}))
        const key = await manager.generateKey('x509-CA-A', type)
        t.match(key, { id: 'x509-CA-A', type })
        const { asymmetricKeyType, asymmetricKeyDetails: details } = publicKeyOf(key)
        const kind = asymmetricKeyType === 'ec' ? details?.namedCurve : `rsa-${details?.modulusLength}`
        t.equal(kind, { 'ec-p256': 'prime256v1', 'ec-p384': 'secp384r1' }[type as string] ?? type, 'the public key is of that type')
        for (const encoding of ['der', 'ieee-p1363'] as const) {
          const signatures = [await key.sign(data, encoding), ...remote ? [] : [key.signSync?.(data, encoding) ?? t.fail('no signSync')]]
          for (const signature of signatures) t.ok(isSignature(key, signature as Uint8Array, encoding), encoding)
        }
        t.equal(key.signSync === undefined, remote)
        if (type === 'ec-p384') t.equal((await key.sign(data, 'ieee-p1363')).length, 96, 'the JWS form has a fixed length')
      })
    }

    await t.test('keys by ID', async t => {
      await using manager = await open(t.testdir({}))
      t.equal(manager.getKey('none'), undefined)
      t.strictSame(manager.ids, [])
      const [a, b] = await Promise.all(['a', 'b'].map(id => manager.generateKey(id, 'ec-p256')))
      t.strictSame([...manager.ids].toSorted(), ['a', 'b'], 'made at the same time, both are there')
      t.strictSame(manager.getKey('a')?.publicKey, a?.publicKey)
      const next = await manager.generateKey('a', 'ec-p384')
      t.strictSame(manager.getKey('a')?.publicKey, next.publicKey, 'a new key takes the place of the old one')
      t.ok(isSignature(a as ManagedKey, await (a as ManagedKey).sign(data, 'der'), 'der'), 'which still signs for who holds it')
      await manager.deleteKey?.('a')
      await manager.deleteKey?.('never')
      t.strictSame([manager.getKey('a'), manager.ids], [undefined, ['b']])
      t.strictSame(manager.getKey('b')?.publicKey, b?.publicKey)
      for (const id of ['', 'a/b', 'a b', 'ü', 'a'.repeat(256), 'a\n']) {
        await t.rejects(manager.generateKey(id, 'ec-p256'), { code: 'argument_invalid' }, JSON.stringify(id.slice(0, 9)))
      }
      await manager.generateKey('__proto__', 'ec-p256')
      t.strictSame([...manager.ids].toSorted(), ['__proto__', 'b'], 'an ID like any other')
    })

    await t.test('what is closed makes no more keys', async t => {
      const manager = await open(t.testdir({}))
      const late = manager.generateKey('a', 'ec-p256')
      await late
      await manager[Symbol.asyncDispose]()
      await t.rejects(manager.generateKey('b', 'ec-p256'), { code: 'server_stopping' })
    })

    await t.test('the private key is not visible', async t => {
      await using manager = await open(t.testdir({}))
      const key = await manager.generateKey('a', 'ec-p256')
      const inspected = [key, manager].map(value => inspect(value, { depth: 9, showHidden: true }))
      for (const text of [...inspected, JSON.stringify([key, manager])]) t.notMatch(text, /private|KeyObject|PrivateKey|pkcs8/i)
      t.notOk(Object.values(key).some(value => typeof value === 'object' && !(value instanceof Uint8Array)), 'no member is a key object')
    })
  })
}
