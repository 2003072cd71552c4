import t from 'tap'
import { anonymiseLine, maskLine } from '../../labs/frame/mask.ts'

await t.test('what differs from run to run is masked, and nothing else', async t => {
  const masked = {
    'Expiration time   : 2026-11-26 16:53:08 +0000 UTC': 'Expiration time : <time>',
    'time=2026-11-26T15:52:48.123Z level=info': 'time=<time> level=info',
    'notAfter=Nov 26 16:53:26 2026 GMT': 'notAfter=<time>',
    'Serial number     : 93152852806367905842478125391888328705': 'Serial number : <hex>',
    'subject=C = US, O = SPIRE, CN = shop.internal': 'subject=C=US, O=SPIRE, CN=shop.internal',
    'Token: 7f140a39-aaca-463f-869f-5b4866297ff6': 'Token: <id>',
    'X509 1A:2B:3C:4D:5E:6F:70:81': 'X509 <hex>',
    'requestId=0011aabb': 'requestId=<hex>',
    'eyJhbGciOiJF.eyJhdWQiOl.c2ln-bmF_0dX': '<token>',
    'received 1 svid after 4.549s, in 59m59s': 'received 1 svid after <duration>, in <duration>',
    '$ export SERVER_PORT=40053': '$ export SERVER_PORT=<port>',
    'address=127.0.0.1:40053': 'address=127.0.0.1:<port>',
    'unix:uid:0 pid=4711': 'unix:uid:<number> pid=<number>',
    'unix:///tmp/assay-demo-25085-bD4Wzr/agent.sock': '<folder>/agent.sock',
    'host=%2Ftmp%2Fassay-demo-16773-q8ZB6f%2Fpg&user=assay': 'host=<folder>%2Fpg&user=assay',
    'Chores       : 70da89be (vm) until 2026-11-26 16:14:51 +0000 UTC': 'Chores : <hex> (<host>) until <time>',
    'Attestation type  : join_token': 'Attestation type : join_token',
    'status 403, 2 of 3 agents': 'status 403, 2 of 3 agents'
  }
  for (const [line, expected] of Object.entries(masked)) t.equal(maskLine(line), expected)
})

await t.test('a page does not tell where it was made, and fits all the same', async t => {
  const line = 'Chores       : 70da89be (vm) in /tmp/assay-demo-2-x and host=%2Ftmp%2Fassay-demo-2-x%2Fpg'
  const anonymous = anonymiseLine(line, '/tmp/assay-demo-2-x')
  t.notMatch(anonymous, /vm|demo-2/)
  t.equal(maskLine(anonymous), maskLine(line))
})
