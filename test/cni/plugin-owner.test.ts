import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { ApiServer } from '../../src/attestation/kubernetes/api-server.ts'
import { isPluginWanted, parsePluginOwner } from '../../src/cli/mesh/plugin-owner.ts'
import { silentLogger } from '../../src/runtime/logger.ts'

const owner = parsePluginOwner('assay-node/assay-agent/cni')
const daemonSet = (containers: readonly string[], metadata: object = {}) => ({
  metadata: { name: 'assay-agent', ...metadata }, spec: { template: { spec: { containers: containers.map(name => ({ name })) } } }
})

void t.test('whether an agent that ends is upgraded or uninstalled', async t => {
  let answer: { status: number, body: object } = { status: 404, body: {} }
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.url ?? '')
    response.writeHead(answer.status).end(JSON.stringify(answer.body))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  await using api = new ApiServer(async () => ({
    server: new URL(url), ca: undefined, serverName: undefined, skipVerify: false, client: undefined, token: 'token'
  }))
  const wanted = async () => await isPluginWanted(owner, api, silentLogger, AbortSignal.timeout(60_000))
  for (const [what, status, body, expected] of [
    ['its DaemonSet is there, with this container', 200, daemonSet(['agent', 'envoy', 'cni']), true],
    ['it goes on without the mesh', 200, daemonSet(['agent']), false],
    ['it is being deleted', 200, daemonSet(['agent', 'cni'], { deletionTimestamp: '2026-01-01T00:00:00Z' }), false],
    ['it is gone', 404, {}, false],
    ['its rights went first', 403, { message: 'forbidden' }, false],
    ['its account went first', 401, { message: 'Unauthorized' }, false],
    ['the API server has troubles of its own', 500, { message: 'etcd' }, true],
    ['it answers something else', 200, { spec: [] }, false]
  ] as const) {
    answer = { status, body }
    t.equal(await wanted(), expected, what)
  }
  t.strictSame(new Set(asked), new Set(['/apis/apps/v1/namespaces/assay-node/daemonsets/assay-agent']))
  server.closeAllConnections()
  server.close()
  await once(server, 'close')
  t.equal(await wanted(), true, 'an API server that does not answer says nothing: no pod starts in the clear for that')
})

void t.test('an owner has three names', async t => {
  for (const text of ['', 'assay-agent', 'a/b', 'a/b/c/d', 'A/b/c', '../x/c']) {
    t.throws(() => parsePluginOwner(text), { code: 'usage_invalid' }, text)
  }
})
