import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { createJoinToken } from '../fakes/agent-client.ts'
import { securityHeader, startTestAgent } from '../fakes/agent.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { startTestServer } from '../fakes/server.ts'

const id = (path: string) => ({ trustDomain: 'example.org', path })

/** A secret may show in another dress: as it is, in base64 or in hex; a piece of it is enough. */
function dresses (secret: Uint8Array | string): string[] {
  const bytes = Buffer.from(secret as Uint8Array)
  return [bytes.toString('latin1'), bytes.toString('base64'), bytes.toString('base64url'), bytes.toString('hex')]
    .map(text => text.slice(-40, -4)).filter(text => text.length > 20)
}

t.test('no key and no token reaches a log, at the finest level (JWT-17)', async t => {
  const { log, lines } = capturedLog()
  await using server = await startTestServer({ log })
  const unused = await createJoinToken(server)
  const token = await createJoinToken(server)
  await using agent = await startTestAgent(server, { log, token })
  await server.admin.client(entryService).batchCreateEntry({
    entries: [{ spiffeId: id('/web'), parentId: id(agent.path), selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }] }]
  })
  const workload = agent.workload.client(workloadService)
  let state
  while (state === undefined) state = await firstOf(workload.fetchX509SVID({}, securityHeader)).catch(() => undefined)
  const { svids: [jwt] } = await workload.fetchJWTSVID({ audience: ['db'] }, securityHeader)
  await workload.validateJWTSVID({ audience: 'other', svid: jwt?.svid ?? '' }, securityHeader).catch(() => {})
  await workload.validateJWTSVID({ audience: 'db', svid: `${jwt?.svid.slice(0, -9)}AAAAAAAA` }, securityHeader).catch(() => {})
  const { svid: minted } = await server.admin.client(svidService).mintJWTSVID({ id: id('/minted'), audience: ['db'] })
  const agentData = JSON.parse(await readFile(join(agent.folder, 'agent-data.json'), 'utf8')) as { private_key: string }
  const serverKeys = JSON.parse(await readFile(join(server.folder, 'keys.json'), 'utf8')) as { keys: Record<string, string> }

  const secrets = {
    'an unused join token': [unused],
    'a workload\'s key': dresses(state.svids[0]?.x509SvidKey ?? ''),
    'a JWT-SVID': [jwt?.svid.slice(-60) ?? '', jwt?.svid.split('.')[1] ?? ''],
    'a minted JWT-SVID': [minted?.token.slice(-60) ?? ''],
    'the agent\'s key': dresses(Buffer.from(agentData.private_key, 'base64')),
    'a signing key': Object.values(serverKeys.keys).flatMap(key => dresses(Buffer.from(key, 'base64')))
  }
  const text = JSON.stringify(lines)
  t.ok(lines.length > 30, 'there is a log to look through')
  for (const [name, forms] of Object.entries(secrets)) {
    t.ok(forms.length > 0 && forms.every(form => form.length > 20), `${name}: known`)
    for (const form of forms) t.notOk(text.includes(form), name)
  }
})
