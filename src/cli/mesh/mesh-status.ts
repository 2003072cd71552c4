import type { MeshStatus } from '../../wire/generated/agent-sync.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { counted, formatRows, formatTable, printable } from '../pretty.ts'
import { outputFlag } from '../socket-path.ts'
import { meshFlags, withMesh, xdsSocketPath } from './mesh-client.ts'

export const meshStatus = defineCommand({
  flags: { ...meshFlags, output: outputFlag },
  details: 'Exit code 0: a proxy is there, and serves every workload that has an identity. 1: it does not.',
  examples: ['assay mesh status', 'assay mesh status --output json'],
  async run ({ flags, terminal }) {
    const status = await withMesh(xdsSocketPath(flags.socketPath, terminal.environment),
      mesh => mesh.getMeshStatus({}, { signal: terminal.signal, timeoutMs: 10_000 }))
    if (flags.output === 'json') terminal.out(`${formatJson(status)}\n`)
    else terminal.out(formatStatus(status))
    for (const { type, name, reason } of status.refused) terminal.err(`Warning: the proxy refused ${type} ${name}: ${printable(reason)}\n`)
    const all = status.workloads.every(({ spiffeId, served }) => spiffeId === '' || served)
    const well = status.proxies > 0 && status.refused.length === 0 && all
    return well ? 0 : 1
  }
})

function formatStatus ({ workloads, proxies, envoy, services, endpoints }: MeshStatus): string {
  const run = envoy === undefined ? undefined
    : envoy.pid === 0 ? `does not run; ended with ${envoy.lastExit}`
      : `${envoy.version} ${envoy.state}, pid ${envoy.pid}, ${counted(envoy.restarts, 'restart', 'restarts')}`
  const rows = formatRows([
    ['Proxies', proxies === 0 ? 'none is connected' : String(proxies)],
    ['Envoy', run],
    ['Services', `${services}, with ${counted(endpoints, 'endpoint', 'endpoints')}`]
  ], 9)
  if (workloads.length === 0) return `${rows}\nNo workloads on this node\n`
  return `${rows}\n${formatTable(['WORKLOAD', 'ADDRESSES', 'SPIFFE ID', 'PROXY'], workloads.map(one => [
    printable(one.name),
    one.addresses.join(', ') || '-',
    one.spiffeId || 'none: no entry matches',
    one.served ? 'serves it' : 'does not serve it'
  ]))}`
}
