import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag } from '../socket-path.ts'
import { formatMeshStatus, warnOfRefusals } from './format-mesh-status.ts'
import { meshFlags, withMesh, xdsSocketPath } from './mesh-client.ts'

export const meshStatus = defineCommand({
  flags: { ...meshFlags, output: outputFlag },
  details: 'Exit code 0: a proxy is there, and serves every workload that has an identity. 1: it does not.',
  examples: ['assay mesh status', 'assay mesh status --output json'],
  async run ({ flags, terminal }) {
    const status = await withMesh(xdsSocketPath(flags.socketPath, terminal.environment),
      mesh => mesh.getMeshStatus({}, { signal: terminal.signal, timeoutMs: 10_000 }))
    if (flags.output === 'json') terminal.out(`${formatJson(status)}\n`)
    else terminal.out(formatMeshStatus(status))
    warnOfRefusals(terminal, status)
    const all = status.workloads.every(({ spiffeId, served }) => spiffeId === '' || served)
    const well = status.proxies > 0 && status.refused.length === 0 && all
    return well ? 0 : 1
  }
})
