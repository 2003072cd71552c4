import t from 'tap'
import { createJoinTokenAttestor } from '../../src/attestation/node/join-token/join-token-attestor.ts'

void t.test('shows the token once and answers no challenge', async t => {
  const attestor = createJoinTokenAttestor(async () => 'a-token')
  t.equal(attestor.name, 'join_token')
  const attestation = attestor.attest(new AbortController().signal)
  t.strictSame((await attestation.next(new Uint8Array())).value, Buffer.from('a-token'))
  const error = await attestation.next(new Uint8Array([1])).then(() => undefined, (error: Error) => error)
  t.match(error, { code: 'attestation_malformed' })
  t.notMatch(String(error), 'a-token')
  const empty = createJoinTokenAttestor(async () => '').attest(new AbortController().signal)
  await t.rejects(empty.next(new Uint8Array()), { code: 'join_token_invalid' })
})
