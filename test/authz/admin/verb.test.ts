import t from 'tap'
import { adminVerbs, grantVerbs, methodVerbs } from '../../../src/authz/admin/verb.ts'
import { serverApiPolicy } from '../../../src/authz/server-api-policy.ts'

void t.test('each method that operators may call belongs to exactly one verb, and no other method to any', async t => {
  for (const [method, callers] of serverApiPolicy) {
    const forOperators = callers.includes('admin') || callers.includes('local')
    t.equal(methodVerbs.has(method), forOperators, method)
  }
  for (const method of methodVerbs.keys()) t.ok(serverApiPolicy.has(method), `${method} is a method`)
})

void t.test('what the API offers that can lead to more is a grant of its own', async t => {
  const verbs = new Set<string>(methodVerbs.values())
  for (const grant of [
    'entries.admin', 'entries.downstream', 'entries.alias', 'tokens.alias', 'bundles.detach', 'bundles.admin', 'federation.admin',
    'services.address'
  ] as const) {
    t.notOk(verbs.has(grant), `${grant} comes with no method`)
    t.ok(grantVerbs.has(grant) && adminVerbs.includes(grant), `${grant} can be granted`)
  }
  const of = (method: string) => methodVerbs.get(`/spire.api.server.${method}`)
  t.equal(of('svid.v1.SVID/MintX509SVID'), 'svids.mint')
  t.equal(of('bundle.v1.Bundle/AppendBundle'), 'bundle.append')
  t.equal(methodVerbs.get('/assay.server.federation.v1.Federation/RaiseBundleSequence'), 'bundle.append')
  t.equal(of('trustdomain.v1.TrustDomain/RefreshBundle'), 'federation.write')
  t.equal(of('localauthority.v1.LocalAuthority/RevokeX509Authority'), 'authorities.change')
  t.equal(of('agent.v1.Agent/CreateJoinToken'), 'tokens.create')
  t.equal(of('agent.v1.Agent/AttestAgent'), undefined, 'agents\' own methods have none')
})
