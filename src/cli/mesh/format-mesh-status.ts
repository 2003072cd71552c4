import { formatDuration } from '../../runtime/duration.ts'
import type { Envoy, MeshStatus } from '../../wire/generated/agent-sync.ts'
import { counted, formatRows, formatTable, printable } from '../pretty.ts'
import type { Terminal } from '../terminal.ts'

/** The node's proxy, its last lines, and the workloads that it serves. */
export function formatMeshStatus ({ workloads, proxies, envoy, services, endpoints, plaintext }: MeshStatus): string {
  const rows = formatRows([
    ['Proxies', proxies === 0 ? 'none is connected' : String(proxies)],
    ['Envoy', envoy && formatEnvoy(envoy)],
    ['Listeners', envoy && formatListeners(envoy)],
    ['Admin', envoy?.adminSocket],
    ['Services', `${services}, with ${counted(endpoints, 'endpoint', 'endpoints')}`]
  ], 9)
  const log = (envoy?.log ?? []).map(line => `  ${printable(line)}\n`).join('')
  const lines = log === '' ? '' : `\nIt wrote last:\n${log}`
  const clear = formatPlaintext(plaintext)
  if (workloads.length === 0) return `${rows}${lines}${clear}\nNo workloads on this node\n`
  return `${rows}${lines}${clear}\n${formatTable(['WORKLOAD', 'ADDRESSES', 'SPIFFE ID', 'PROXY'], workloads.map(one => [
    printable(one.name),
    one.addresses.join(', ') || '-',
    one.spiffeId || 'none: no entry matches',
    one.served ? 'serves it' : 'does not serve it'
  ]))}`
}

/** Who is left while services move into the mesh. */
function formatPlaintext (callers: MeshStatus['plaintext']): string {
  if (callers.length === 0) return ''
  const rows = callers.toSorted((a, b) => Number(b.count - a.count)).map(({ address, spiffeId, count }) =>
    [printable(address), printable(spiffeId), String(count)])
  return `\n${formatTable(['WITHOUT MTLS', 'TO', 'CONNECTIONS'], rows)}`
}

/** Each resource that a proxy refused and has not replaced since. */
export function warnOfRefusals (terminal: Terminal, { refused }: MeshStatus): void {
  for (const { type, name, reason } of refused) terminal.err(`Warning: the proxy refused ${type} ${name}: ${printable(reason)}\n`)
}

function formatEnvoy ({ pid, state, version, restarts, lastExit, uptimeSeconds }: Envoy): string {
  const ended = lastExit === '' ? [] : [`the last one ended: ${lastExit}`]
  if (pid === 0) return ['does not run', ...ended].join('; ')
  const what = state === '' ? 'does not answer' : `${version} ${state} for ${formatDuration(Number(uptimeSeconds) * 1_000)}`
  return [`${what}, pid ${pid}, ${counted(restarts, 'restart', 'restarts')}`, ...ended].join('; ')
}

function formatListeners ({ state, listeners, listenersWarming }: Envoy): string | undefined {
  if (state === '') return undefined
  return listenersWarming === 0 ? String(listeners) : `${listeners}, and ${listenersWarming} that cannot be served yet`
}
