import t from 'tap'
import { verifyServerIdOnly, verifyServerWith } from '../../src/rpc/verify-server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { decodePem } from '../../src/x509/pem.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { MachineCa } from '../fakes/machine-ca.ts'

const domain = parseTrustDomain('example.org')
const serverId = 'spiffe://example.org/spire/server'

/** By a CA that nobody knows. */
async function chainWith (...uris: string[]): Promise<Uint8Array[]> {
  const ca = await MachineCa.create('CN=whoever answers')
  const { certificate } = await ca.certify({ sans: uris.map(value => ({ type: 'url', value })) })
  return decodePem(certificate, 'CERTIFICATE')
}

void t.test('insecure_bootstrap believes any chain, and no other ID than the server\'s, alone (spire-surface §2.1)', async t => {
  const verify = verifyServerIdOnly(domain)
  verify(await chainWith(serverId))
  for (const uris of [[], ['spiffe://example.org/spire/agent/a'], ['spiffe://other.org/spire/server'], [serverId, 'spiffe://example.org/x']]) {
    const chain = await chainWith(...uris)
    t.throws(() => verify(chain), { code: 'peer_unauthenticated' }, uris.join(' ') || 'no ID')
  }
  t.throws(() => verify([]), 'no certificate')
})

void t.test('under a bundle the chain counts too', async t => {
  const authority = await createTestAuthority(domain)
  const verify = verifyServerWith(() => authority.bundle, systemClock)
  const { chain } = await authority.issue('/spire/server')
  verify(chain)
  const agent = await authority.issue('/spire/agent/a')
  t.throws(() => verify(agent.chain), { code: 'peer_unauthenticated' }, 'another member of the trust domain')
  const stranger = await createTestAuthority(domain)
  const strange = await stranger.issue('/spire/server')
  t.throws(() => verify(strange.chain), { code: 'x509_chain_untrusted' })
})
