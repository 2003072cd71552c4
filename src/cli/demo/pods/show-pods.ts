import type { Terminal } from '../../terminal.ts'
import { formatOutcome } from './call-watch.ts'
import { formatCalls, formatHandshakes } from './format-calls.ts'
import { readHandshakes } from './handshakes.ts'
import { showChanges, untilCallsAreAsListed } from './live-changes.ts'
import { raisePodMesh, type PodMesh, type PodMeshDeps } from './pod-mesh.ts'
import { rotateAuthority } from './rotate-authority.ts'

/** Nobody is waiting any more. */
const idlePauseMs = 500

/** From nothing to a mesh that has shown what it can. @returns what to try; the calls go on, with a line per change, until `scope` ends */
export async function showPods (deps: PodMeshDeps, { out }: Pick<Terminal, 'out'>, scope: AsyncDisposableStack): Promise<string> {
  const { steps, signal, topology } = deps
  const mesh = await raisePodMesh(deps)
  scope.use(mesh.operator)
  for (const caller of Object.values(mesh.pods)) mesh.calls.add(caller)
  const over = new AbortController()
  const quiet = mesh.calls.run(AbortSignal.any([signal, over.signal]))
  scope.defer(async () => {
    over.abort()
    await Promise.race([quiet, deps.topology.anyEnded().catch(() => {})])
  })
  await steps.run('every pod calls api and db, again and again', () =>
    Promise.race([untilCallsAreAsListed(mesh, signal), topology.anyEnded()]))
  const showTable = async () => {
    out(`\n${formatCalls(mesh.calls.outcomes)}\n`)
    steps.say(formatHandshakes(await readHandshakes(mesh.adminSockets)))
  }
  await showTable()
  mesh.calls.onChange = outcome => steps.say(`  ${formatOutcome(outcome)}`)
  await Promise.race([showChanges(mesh, deps), topology.anyEnded()])
  await showTable()
  await steps.run('replacing the X.509 authority under two loops of requests, and trusting the old one no more', () =>
    Promise.race([rotateAuthority(mesh, deps), topology.anyEnded()]))
  mesh.calls.pauseMs = idlePauseMs
  return howToTry(mesh)
}

function howToTry ({ pods: { batch, web }, server, services, xdsSockets: [xds] }: PodMesh): string {
  const socket = `-socketPath ${server.adminSocket}`
  return [
    `  call api as web:         ${batch.pod.enter.join(' ')} curl http://${services.api.address}/`,
    `  and as batch:            ${web.pod.enter.join(' ')} curl http://${services.api.address}/`,
    `  let batch call db again: bin/assay service update -name db -address ${services.db.address} -port 80:8080/http \\`,
    '                             -spiffeID spiffe://example.org/db -caller spiffe://example.org/api -caller spiffe://example.org/batch \\',
    `                             ${socket}`,
    `  see the services:        bin/assay service list ${socket}`,
    `  see the entries:         bin/assay entry show ${socket}`,
    `  see a node's workloads:  bin/assay mesh workloads -socketPath ${xds}`
  ].join('\n')
}
