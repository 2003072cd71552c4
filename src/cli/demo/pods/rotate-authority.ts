import { execFile } from 'node:child_process'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { assay } from '../topology.ts'
import { until } from '../until.ts'
import { formatHandshakes } from './format-calls.ts'
import { readHandshakes } from './handshakes.ts'
import type { PodClient } from './pod-client.ts'
import type { PodMesh, PodMeshDeps } from './pod-mesh.ts'

const run = promisify(execFile)
const betweenRequestsMs = 5
const handshakesTimeoutMs = 60_000

/** The authority goes as if its key had leaked, while two workloads call without end. */
export async function rotateAuthority (mesh: PodMesh, { steps, signal, clock }: PodMeshDeps): Promise<void> {
  const { pods: { batch, api }, services, server, adminSockets } = mesh
  const stop = new AbortController()
  const loops = [callUntil(batch, services.api.address ?? '', stop.signal), callUntil(api, services.db.address ?? '', stop.signal)]
  try {
    const [program = '', ...words] = assay('rotate', '--compromised', 'x509', '-socketPath', server.adminSocket)
    const rotation = run(program, words, { signal })
    if (rotation.child.stdout !== null) createInterface({ input: rotation.child.stdout }).on('line', line => steps.say(`  ${line}`))
    await rotation
    const { count } = await readHandshakes(adminSockets)
    const more = async () => (await readHandshakes(adminSockets)).count > count + 1 || undefined
    await until('handshakes under the new authority', more, handshakesTimeoutMs, signal)
  } finally {
    stop.abort()
  }
  const counts = await Promise.all(loops)
  const [requests, failures] = [counts.reduce((sum, one) => sum + one.requests, 0), counts.flatMap(one => one.failures)]
  steps.say(`  ${requests} requests meanwhile, ${failures.length} failed`)
  steps.say(`  ${formatHandshakes(await readHandshakes(adminSockets))}`)
  if (failures.length > 0) throw new Error(`${failures.length} of ${requests} requests failed, the first with: ${failures[0]}`)

  async function callUntil (caller: PodClient, address: string, stopped: AbortSignal): Promise<{ requests: number, failures: string[] }> {
    const failures = []
    let requests = 0
    for (; !stopped.aborted && !signal.aborted; requests++) {
      const { status, body } = await caller.call(address, 80)
      if (status !== 200) failures.push(`${status} ${body}`)
      await clock.sleep(betweenRequestsMs)
    }
    return { requests, failures }
  }
}
