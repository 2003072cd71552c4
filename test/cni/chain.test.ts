import t from 'tap'
import { chained, networkOf, type PluginEntry, unchained } from '../../src/cni/chain.ts'

const entry: PluginEntry = { socketPath: '/run/assay/mesh/xds.sock', onFailure: 'fail-closed', exemptNamespaces: ['kube-system'] }
const ours = { type: 'assay-cni', ...entry }
const others = [
  { type: 'ptp', ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }]] } },
  { type: 'portmap', capabilities: { portMappings: true } }
]
const list = (plugins: readonly object[]) => JSON.stringify({ cniVersion: '1.0.0', name: 'pods', disableCheck: true, plugins })
const read = (text: string | undefined) => JSON.parse(text ?? 'null') as unknown

void t.test('a network\'s list of plugins', async t => {
  const whole = { cniVersion: '1.0.0', name: 'pods', disableCheck: true, plugins: [...others, ours] }
  t.strictSame(read(chained(list(others), entry)), whole, 'ours is the last, and all else is as it was')
  t.equal(chained(list([...others, ours]), entry), undefined, 'nothing is written where nothing changes')
  t.strictSame(read(chained(list([ours, ...others]), entry)), whole, 'in another place it comes to the end')
  t.strictSame(read(chained(list([...others, ours, ours]), entry)), whole, 'twice it comes once')
  t.strictSame(read(chained(list([...others, { ...ours, onFailure: 'pass' }]), entry)), whole, 'what it says is what is wanted now')
  t.equal(networkOf(list(others)), 'pods')
})

void t.test('taken out again', async t => {
  t.strictSame(read(unchained(list([...others, ours]))), read(list(others)), 'the list is what it was before')
  t.equal(unchained(list(others)), undefined)
  for (const text of ['{', '[]', '{"type": "bridge"}', '']) t.equal(unchained(text), undefined, `not for us to touch: ${text}`)
})

void t.test('lists that it cannot join', async t => {
  for (const [text, reason] of Object.entries({
    '{"plugins": [': /is no JSON/,
    '[]': /is no JSON object/,
    '{"cniVersion": "1.0.0", "name": "pods", "type": "bridge"}': /is a single plugin.*\*\.conflist/,
    '{"name": "pods", "plugins": {}}': /has no list of plugins/,
    '{"name": "pods", "plugins": ["bridge"]}': /has no list of plugins/,
    '{"name": "pods", "plugins": []}': /no plugin but ours/,
    '{"name": "pods", "plugins": [{"type": "assay-cni"}]}': /no plugin but ours/
  })) {
    t.throws(() => chained(text, entry), { code: 'cni_network_unusable', message: reason }, text)
  }
})
