import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { parseSpiffeId, pathOf } from '../../src/spiffe/spiffe-id.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { ContainerGroup, groupsMissing } from '../fakes/container-group.ts'
import { FakeDocker } from '../fakes/docker.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'
import { startSpireAgent, withoutSpireAgent } from '../fakes/spire.ts'

t.setTimeout(180_000)

const id = '9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961'
const imageId = 'sha256:bf862e5f5eca0a73e7e538224578c5cf867ce2be91b5eaed22afc153c00363eb'
const trustDomain = 'example.org'
const program = join(import.meta.dirname, '../../src/cli/main.ts')
/** Those that the container has, then some that it has not. */
const values = [
  'label:com.example.name:web', 'label:empty:', 'env:PATH=/bin', 'env:EMPTY=', 'image_id:docker.io/library/web:1',
  `image_config_digest:${imageId}`, 'label:com.example.name:other', 'env:PATH', 'image_id:web:1', `image_id:${imageId}`
]

/** Fetches from an agent in the container, as its first process. @returns paths of the SPIFFE IDs that it was given */
async function pathsGiven (socket: string, group: ContainerGroup, docker: FakeDocker): Promise<string[]> {
  const command = `read _; exec "${process.execPath}" "${program}" api fetch x509 -socketPath "${socket}" -timeout 10s -output json`
  const child = spawn('/bin/sh', ['-c', command], { stdio: ['pipe', 'pipe', 'ignore'] })
  const said = text(child.stdout)
  const pid = child.pid as number
  group.add(pid)
  docker.containers.set(id, {
    pid, image: 'docker.io/library/web:1', imageId, labels: { 'com.example.name': 'web', empty: '' }, env: ['PATH=/bin', 'EMPTY=']
  })
  child.stdin.end('\n')
  const given = [...(await said).matchAll(/spiffe:\/\/example\.org\/s\d+/g)].map(([found]) => pathOf(parseSpiffeId(found)))
  return [...new Set(given)].toSorted()
}

void t.test('docker: SPIRE\'s agent and ours find the same selectors', { skip: withoutSpireAgent || groupsMissing() }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'assay-docker-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const socket = join(folder, 'docker.sock')
  await using docker = await FakeDocker.listen(socket)
  docker.images.add(imageId)
  docker.tags.set('docker.io/library/web:1', imageId)
  using group = new ContainerGroup(`/docker/${id}`)
  const data = { docker_socket_path: `unix://${socket}` }
  await using server = await startTestServer()
  const { config, ready } = server
  await using ours = await startTestAgent(server, {
    config: { plugins: z.strictObject(pluginSchemas(agentCatalog)).parse({ WorkloadAttestor: { docker: { plugin_data: data } } }) }
  })
  const any = { trustDomain, address: `127.0.0.1:${ready.port}`, adminSocket: config.socketPath }
  await using theirs = await startSpireAgent(any, undefined, { workloadAttestors: { docker: data } })
  const agents = [ours.path, pathOf(parseSpiffeId(theirs.id))]
  const { results } = await server.admin.client(entryService).batchCreateEntry({
    entries: agents.flatMap(agent => values.map((value, index) => ({
      spiffeId: { trustDomain, path: `/s${index}` }, parentId: { trustDomain, path: agent }, selectors: [{ type: 'docker', value }]
    })))
  })
  t.ok(results.every(({ status }) => status?.code === 0))
  const expected = values.slice(0, 6).map((_, index) => `/s${index}`)
  const finds = async (agent: string, what: string) => {
    let found: string[] = []
    await eventually(() => `${what} found ${found.join(' ')}`, async () => {
      found = await pathsGiven(agent, group, docker)
      return found.length >= expected.length
    }, 90_000)
    t.strictSame(found, expected, what)
  }
  await finds(theirs.socket, 'SPIRE\'s agent')
  await finds(ours.config.socketPath, 'ours')
})
