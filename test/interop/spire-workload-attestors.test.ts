import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
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

const trustDomain = 'example.org'
const program = join(import.meta.dirname, '../../src/cli/main.ts')
const skip = withoutSpireAgent || groupsMissing()

interface Setting {
  /** Name of the attestor, and the type of its selectors. */
  readonly type: string
  readonly data?: Readonly<Record<string, unknown>>
  /** The control group that the workload begins in. */
  readonly group: ContainerGroup
  /** Told of the workload before it asks. */
  readonly began?: (pid: number) => void
  /** Values of the selectors that it has, and of some that it has not. */
  readonly values: { readonly found: readonly string[], readonly others: readonly string[] }
}

/** Fetches from an agent as a process in the control group. @returns paths of the SPIFFE IDs that it was given */
async function pathsGiven (socket: string, { group, began }: Setting): Promise<string[]> {
  const command = `read _; exec "${process.execPath}" "${program}" api fetch x509 -socketPath "${socket}" -timeout 10s -output json`
  const child = spawn('/bin/sh', ['-c', command], { stdio: ['pipe', 'pipe', 'ignore'] })
  const said = text(child.stdout)
  const pid = child.pid as number
  group.add(pid)
  began?.(pid)
  child.stdin.end('\n')
  const given = [...(await said).matchAll(/spiffe:\/\/example\.org\/s\d+/g)].map(([found]) => pathOf(parseSpiffeId(found)))
  return [...new Set(given)].toSorted()
}

/** An identity for each value, given by the real agent and by ours. */
async function compareAgents (t: Test, setting: Setting): Promise<void> {
  const { type, data = {}, values: { found, others } } = setting
  await using server = await startTestServer()
  const { config, ready } = server
  await using ours = await startTestAgent(server, {
    config: { plugins: z.strictObject(pluginSchemas(agentCatalog)).parse({ WorkloadAttestor: { [type]: { plugin_data: data } } }) }
  })
  const any = { trustDomain, address: `127.0.0.1:${ready.port}`, adminSocket: config.socketPath }
  await using theirs = await startSpireAgent(any, undefined, { workloadAttestors: { [type]: data } })
  const agents = [ours.path, pathOf(parseSpiffeId(theirs.id))]
  const { results } = await server.admin.client(entryService).batchCreateEntry({
    entries: agents.flatMap(agent => [...found, ...others].map((value, index) => ({
      spiffeId: { trustDomain, path: `/s${index}` }, parentId: { trustDomain, path: agent }, selectors: [{ type, value }]
    })))
  })
  t.ok(results.every(({ status }) => status?.code === 0))
  const expected = found.map((_, index) => `/s${index}`)
  for (const [what, socket] of [['SPIRE\'s agent', theirs.socket], ['ours', ours.config.socketPath]] as const) {
    let given: string[] = []
    await eventually(() => `${what} found ${given.join(' ')}`, async () => {
      given = await pathsGiven(socket, setting)
      return given.length >= expected.length
    }, 90_000)
    t.strictSame(given, expected, what)
  }
}

void t.test('docker: SPIRE\'s agent and ours find the same selectors', { skip }, async t => {
  // Not one that another file has at the same time: the control group is the kernel's.
  const id = randomBytes(32).toString('hex')
  const imageId = 'sha256:bf862e5f5eca0a73e7e538224578c5cf867ce2be91b5eaed22afc153c00363eb'
  const folder = mkdtempSync(join(tmpdir(), 'assay-docker-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const socket = join(folder, 'docker.sock')
  await using docker = await FakeDocker.listen(socket)
  docker.images.add(imageId)
  docker.tags.set('docker.io/library/web:1', imageId)
  using group = new ContainerGroup(`/docker/${id}`)
  await compareAgents(t, {
    type: 'docker',
    data: { docker_socket_path: `unix://${socket}` },
    group,
    began: pid => {
      docker.containers.set(id, {
        pid, image: 'docker.io/library/web:1', imageId, labels: { 'com.example.name': 'web', empty: '' }, env: ['PATH=/bin', 'EMPTY=']
      })
    },
    values: {
      found: [
        'label:com.example.name:web', 'label:empty:', 'env:PATH=/bin', 'env:EMPTY=', 'image_id:docker.io/library/web:1',
        `image_config_digest:${imageId}`
      ],
      others: ['label:com.example.name:other', 'env:PATH', 'image_id:web:1', `image_id:${imageId}`]
    }
  })
})

void t.test('slurm: SPIRE\'s agent and ours find the same selectors', { skip }, async t => {
  using group = new ContainerGroup(`/system.slice/assay${process.pid}_slurmstepd.scope/job_3385/step_batch/user/task_0`)
  await compareAgents(t, {
    type: 'slurm', group, values: { found: ['job_id:3385', 'step:batch'], others: ['job_id:338', 'sluid:3385', 'step:0'] }
  })
})
