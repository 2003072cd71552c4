import t, { type Test } from 'tap'
import { startServer } from '../fakes/processes.ts'
import { spireRpcs } from '../server/contract/spire-services.ts'
import { buildGoPrograms, runGoProgram, withoutGo, type ProgramRun } from './go-programs.ts'

if (withoutGo === false) await buildGoPrograms()

t.test('the RPCs of our descriptors are those of spire-api-sdk (spire-surface §1.0)', { skip: withoutGo }, async t => {
  const { lines, done } = await runGoProgram('admin-client', ['-rpcs'])
  t.ok(done)
  t.same(lines.map(line => String(line['rpc'])).toSorted(), (await spireRpcs()).map(({ path }) => path).toSorted())
})

t.test('an administrator that speaks spire-api-sdk (spire-surface §1.3 to §1.6)', { skip: withoutGo }, async t => {
  await using server = await startServer()
  tell(t, await runGoProgram('admin-client', ['-socket', server.adminSocket, '-trust-domain', server.trustDomain]), 195)
})

t.test('an agent that speaks spire-api-sdk, from join token to eviction (spire-surface §2)', { skip: withoutGo }, async t => {
  await using server = await startServer()
  const { adminSocket, address, trustDomain } = server
  tell(t, await runGoProgram('fake-agent', ['-socket', adminSocket, '-address', address, '-trust-domain', trustDomain]), 75)
  t.notMatch(server.log(), /"level":"error"/, 'no refusal is a bug')
})

/** @param least how many checks the program makes at least: a scenario cut short must not pass */
function tell (t: Test, { checks, done }: ProgramRun, least: number): void {
  for (const { check, ok, detail } of checks) t.ok(ok, check, ok ? {} : { detail })
  t.ok(done, 'the scenario ran to its end')
  t.ok(checks.length >= least, `${checks.length} checks`)
}

