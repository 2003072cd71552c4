import type { PluginHost } from '../../src/pluginhost/plugin-host.ts'
import type { ExternalProgram } from '../../src/plugins/external-program.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { formatHcl } from '../../src/runtime/format-hcl.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { capturedLog, type LogLine } from './captured-log.ts'

/** What plugins are given, with the lines that they leave in the log. */
export function pluginHost (more: Partial<PluginHost> = {}): { readonly host: PluginHost, readonly lines: LogLine[] } {
  const { log, lines } = capturedLog()
  return { host: { trustDomain: parseTrustDomain('example.org'), clock: systemClock, log, ...more }, lines }
}

export function programOf (command: string, args: readonly string[], data: Readonly<Record<string, unknown>> = {}): ExternalProgram {
  return { command, args, checksum: undefined, data: Object.keys(data).length === 0 ? undefined : { hcl: formatHcl(data) } }
}
