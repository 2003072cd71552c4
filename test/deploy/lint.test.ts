import { globSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import t from 'tap'
import { lintManifests } from '../../src/controller/lint/lint-manifests.ts'
import { readManifests } from '../../src/controller/lint/manifest.ts'

const root = join(import.meta.dirname, '../../deploy/kustomize/parts')
const parts = new Map(globSync('*/objects.yaml', { cwd: root }).map(file =>
  [basename(dirname(file)), readFileSync(join(root, file), 'utf8')]))
const codes = (text: string) => lintManifests(readManifests('objects.yaml', text)).map(({ code, about }) => `${code} ${about}`)

const page = readFileSync(join(root, '../../../docs/kubernetes.md'), 'utf8')

void t.test('lint of what docs/kubernetes.md has operators apply', async t => {
  const manifests = [...page.matchAll(/```yaml\n(apiVersion: .*?)\n```/gs)].map(([, yaml = '']) => yaml)
  t.ok(manifests.some(yaml => yaml.includes('kind: ClusterSPIFFEID')), 'there are some')
  for (const yaml of manifests) {
    t.same(codes(yaml), [], yaml.slice(0, 100))
  }
})

void t.test('lint of what deploy/ has', async t => {
  t.ok(parts.has('server-sqlite') && parts.has('agent-mesh'), 'the parts are found')
  for (const [name, text] of parts) {
    t.same(codes(text).filter(found => !found.startsWith('trust-domain-placeholder ')), [], `nothing in ${name}`)
  }
  const server = parts.get('server-sqlite') ?? ''
  t.match(codes(server).join('\n'), /trust-domain-placeholder ConfigMap\//, 'but that it needs a trust domain of one\'s own')
  const replicated = server.replaceAll(/^(\s+replicas): 1$/gm, '$1: 3')
  t.not(replicated, server)
  t.match(codes(replicated).join('\n'), /sqlite-with-replicas (Deployment|StatefulSet)\//, 'several servers on SQLite are found')
  const moved = (parts.get('agent-sds-only') ?? '').replace('kind: DaemonSet', 'kind: Deployment')
  t.match(codes(moved).join('\n'), /agent-not-per-node Deployment\//, 'and agents that are not on each node')
})
