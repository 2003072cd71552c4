import t from 'tap'
import { parseSwitch, unknownNode, validationFormFor } from '../../src/sds/envoy-node.ts'
import { defaultAliases } from '../../src/sds/resource-names.ts'
import type { SdsDelivery } from '../../src/sds/sds-events.ts'
import type { Found, SecretView } from '../../src/sds/secret-resource.ts'
import { selectSecrets } from '../../src/sds/select-secrets.ts'
import { type SotwAnswer, SotwSession } from '../../src/sds/sotw-session.ts'

const at = new Date('2026-01-01T12:00:00Z')
const own = 'spiffe://own.test'
const foreign = 'spiffe://foreign.test'
const web = 'spiffe://own.test/web'
const db = 'spiffe://own.test/db'

/** The view of a workload with two identities in a federated domain; `overrides` replaces what a name means. */
function viewOf (overrides: Readonly<Record<string, Found['kind']>> = {}, all = [own, foreign, web, db]): SecretView {
  const known = new Set([...all, 'ROOTCA', 'ALL', 'default'])
  return {
    ownBundleName: own,
    defaultSvidName: web,
    allNames: new Set(all),
    find (name): Found {
      const kind = overrides[name] ?? (known.has(name) ? 'usable' : 'absent')
      if (kind === 'usable') return { kind, resource: { name, version: 'hash', value: new Uint8Array(), expiresAt: undefined } }
      if (kind === 'unusable') return { kind, name, reason: 'test' }
      return kind === 'unsupported' ? { kind, name } : { kind }
    }
  }
}

function open () {
  let nonces = 0
  const seen: string[] = []
  const describe = (what: string) => ({ name, version }: SdsDelivery) => { seen.push(`${what} ${name} ${version}`) }
  const session = new SotwSession({
    aliases: defaultAliases,
    newNonce: () => `n${++nonces}`,
    events: { acknowledged: describe('ack'), refused: describe('nack'), heldBack: ({ name }) => { seen.push(`held ${name}`) } }
  })
  return { session, seen, ask: (names: string[], nonce = '', refusal?: string) => { session.receive({ names, nonce, refusal }) } }
}

const namesOf = (answer: SotwAnswer | undefined) => answer?.resources.map(resource => resource.name)

await t.test('which secrets a request names (spire-surface §4.1, §4.2)', async t => {
  const select = (...names: string[]) =>
    selectSecrets(viewOf(), names, defaultAliases, at).map(one => one.kind === 'usable' ? one.resource.name : '?')
  t.same(select(), [own, foreign, web, db], 'no names: everything by SPIFFE names, without the aliases')
  t.same(select('', ''), [own, foreign, web, db], 'empty names are no names')
  t.same(select('default'), ['default'])
  t.same(select(db, web, db), [db, web])
  t.same(select(foreign, 'ROOTCA', web), [foreign, 'ROOTCA', web])
  const refused = (names: string[], list: string) => {
    const message = `workload is not authorized for the requested identities [${list}]`
    t.throws(() => select(...names), { code: 'secret_not_authorized', message })
  }
  refused(['z', 'spiffe://own.test/other', web], '"spiffe://own.test/other" "z"')
  refused([own, 'ROOTCA'], '"ROOTCA"')
  refused(['ALL', 'ROOTCA'], '"ALL"')
  refused(['default', web], '"default"')
  t.throws(() => selectSecrets(viewOf({ ALL: 'unsupported' }), ['ALL'], defaultAliases, at),
    { code: 'sds_validator_unsupported', message: 'unable to use "SPIFFE validator" on Envoy below 1.17' })
})

await t.test('versions, nonces and acknowledgements', async t => {
  const { session, ask, seen } = open()
  ask(['default'])
  t.equal(session.next(at), undefined, 'waits for the first state')
  session.update(viewOf())
  t.match(session.next(at), { version: '1', nonce: 'n1' }, 'the first answer carries 1')
  t.equal(session.next(at), undefined)
  ask(['default', web.replace('web', 'db')], 'stale')
  t.equal(session.next(at), undefined, 'a stale nonce is ignored')
  t.same(seen, [])
  ask(['default'], 'n1')
  t.equal(session.next(at), undefined, 'an acknowledgement with the same names is not answered')
  t.same(seen, ['ack default 1'])
  ask(['ROOTCA', 'default'], 'n1')
  t.same(namesOf(session.next(at)), ['ROOTCA', 'default'], 'changed names are answered, at the same version')
  ask(['default', 'ROOTCA'], 'n2')
  t.equal(session.next(at), undefined, 'the order of names does not matter')
  session.update(viewOf())
  t.match(session.next(at), { version: '2', nonce: 'n3' }, 'every update answers the last request again')
  ask(['default', 'ROOTCA'], 'n3', 'no good')
  t.equal(session.next(at), undefined, 'a refusal is not answered unless the names change')
  t.same(seen.slice(1), ['ack ROOTCA 1', 'ack default 1', 'nack undefined 2'])
})

await t.test('a name that is no longer allowed ends the stream with SPIRE\'s words', async t => {
  const { session, ask } = open()
  session.update(viewOf())
  ask([db])
  session.next(at)
  session.update(viewOf({}, [own, web]))
  t.throws(() => session.next(at), { code: 'secret_not_authorized' })
})

await t.test('a secret that Envoy could not use is never sent', async t => {
  const { session, ask, seen } = open()
  session.update(viewOf({ [web]: 'unusable' }))
  ask([web])
  t.equal(session.next(at), undefined, 'nothing good yet: nothing is sent')
  session.update(viewOf())
  t.same(namesOf(session.next(at)), [web])
  session.update(viewOf({ [web]: 'unusable' }))
  t.same(namesOf(session.next(at)), [web], 'the last good one is kept')
  t.same(seen, [`held ${web}`, `held ${web}`])
})

await t.test('limits on names', async t => {
  t.throws(() => open().ask(Array.from({ length: 1001 }, (_, i) => `n${i}`)), { code: 'argument_invalid' })
  t.throws(() => open().ask(['a'.repeat(2049)]), { code: 'argument_invalid' })
  t.doesNotThrow(() => open().ask(['a'.repeat(2048)]))
})

await t.test('the form of validation contexts', async t => {
  const at = (major: number, minor: number) => validationFormFor({ ...unknownNode, version: { major, minor } }, false)
  t.same([at(1, 17), at(0, 99), at(1, 18), at(1, 40), at(2, 0)], ['plain', 'plain', 'spiffe', 'spiffe', 'spiffe'])
  t.equal(validationFormFor(unknownNode, false), 'spiffe', 'no version reported')
  t.equal(validationFormFor(unknownNode, true), 'plain', 'switched off by configuration')
  t.equal(validationFormFor({ ...unknownNode, disableSpiffeCertValidation: false }, true), 'spiffe', 'metadata wins')
  t.equal(validationFormFor({ ...unknownNode, disableSpiffeCertValidation: true }, false), 'plain', 'metadata wins')
  t.same([true, 'true', '1', false, 'false', 'yes', 3, undefined].map(parseSwitch),
    [true, true, true, false, false, undefined, undefined, undefined])
})
