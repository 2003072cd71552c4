import t from 'tap'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { newKey } from '../fakes/agent-client.ts'
import { startTestServer } from '../fakes/server.ts'
import { createPublicKey } from 'node:crypto'

void t.test('times and hints that nobody lives to see are stored and given back', async t => {
  await using server = await startTestServer()
  const bundles = server.admin.client(bundleService)
  const key = (keyId: string, expiresAt: bigint) =>
    ({ keyId, publicKey: createPublicKey(newKey()).export({ format: 'der', type: 'spki' }), expiresAt })
  const ends = { never: 0n, late: 2n ** 63n - 1n, soon: 4_102_444_800n }
  const jwtAuthorities = Object.entries(ends).map(([keyId, expiresAt]) => key(keyId, expiresAt))
  const { results: [set] } = await bundles.batchSetFederatedBundle({
    bundle: [{ trustDomain: 'partner.example', refreshHint: 2n ** 63n - 1n, jwtAuthorities }]
  })
  t.equal(set?.status?.code, 0)
  const stored = await bundles.getFederatedBundle({ trustDomain: 'partner.example' })
  t.equal(stored.refreshHint, 2n ** 53n - 1n)
  t.strictSame(stored.jwtAuthorities.map(({ keyId, expiresAt }) => [keyId, expiresAt]),
    [['never', 0n], ['late', 8_640_000_000_000n], ['soon', 4_102_444_800n]])
})
