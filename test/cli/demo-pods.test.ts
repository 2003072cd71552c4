import { appendFile, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { formatCalls, formatHandshakes } from '../../src/cli/demo/pods/format-calls.ts'
import { RefusalLog } from '../../src/cli/demo/pods/refusal-log.ts'

const [web, batch, api] = ['spiffe://example.org/web', 'spiffe://example.org/batch', 'spiffe://example.org/api']

function line (at: string, peer: string, fields: object = {}): string {
  const details = 'rbac_access_denied_matched_policy[none]'
  return `${JSON.stringify({ time: at, direction: 'inbound', local: api, peer, details, ...fields })}\n`
}

await t.test('the peer of a refused call is who was refused by that workload in that time', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'refusals-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [one, two] = [join(folder, 'one'), join(folder, 'two')]
  const log = new RefusalLog([one, two])
  const { signal } = new AbortController()
  const peerOf = (from: string, to: string) => log.peerOf(api, Date.parse(from), Date.parse(to), signal)
  await writeFile(two, [
    'no JSON\n',
    line('2026-01-01T00:00:01.000Z', web),
    line('2026-01-01T00:00:02.000Z', web, { local: 'spiffe://example.org/db' }),
    line('2026-01-01T00:00:02.001Z', web, { details: 'via_upstream' }),
    line('2026-01-01T00:00:02.002Z', web, { direction: 'outbound' }),
    line('2026-01-01T00:00:02.003Z', batch)
  ].join(''))
  t.equal(await peerOf('2026-01-01T00:00:01.000Z', '2026-01-01T00:00:01.005Z'), web)
  t.equal(await peerOf('2026-01-01T00:00:02.000Z', '2026-01-01T00:00:02.005Z'), batch, 'not who called another or was let in')

  const late = line('2026-01-01T00:00:03.000Z', web)
  await appendFile(two, late.slice(0, 20))
  const found = peerOf('2026-01-01T00:00:03.000Z', '2026-01-01T00:00:03.005Z')
  await appendFile(two, late.slice(20))
  t.equal(await found, web, 'half a line is waited for')
  t.equal(await peerOf('2026-01-01T00:00:04.000Z', '2026-01-01T00:00:04.005Z'), undefined, 'nobody was refused')

  await appendFile(two, `${'x'.repeat(4_100_000)}\n`)
  await peerOf('2026-01-01T00:00:04.000Z', '2026-01-01T00:00:04.005Z')
  t.equal((await stat(two)).size, 0, 'a log that grows is emptied')
  await appendFile(two, line('2026-01-01T00:00:05.000Z', batch))
  t.equal(await peerOf('2026-01-01T00:00:05.000Z', '2026-01-01T00:00:05.005Z'), batch, 'and read from its beginning')
})

await t.test('calls are shown as a table', async t => {
  t.equal(formatCalls([
    { from: 'web', to: 'api', allowed: true, peer: web, by: ['api', 'api-2'] },
    { from: 'batch', to: 'api', allowed: false, peer: batch, by: [] },
    { from: 'new', to: 'api', allowed: false, peer: undefined, by: [] }
  ]), [
    '  plain HTTP     decision   answered by   the peer saw\n',
    '  web -> api     allowed    api, api-2    spiffe://example.org/web\n',
    '  batch -> api   refused    -             spiffe://example.org/batch\n',
    '  new -> api     refused    -             nobody\n'
  ].join(''))
  t.equal(formatHandshakes({ count: 3, versions: ['TLSv1.3'], keyExchanges: ['X25519MLKEM768'] }),
    '3 TLS handshakes between proxies so far: TLSv1.3 with X25519MLKEM768, all of them')
})
