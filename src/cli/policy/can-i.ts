import { explainDecision } from '../../authz/explain/explain-decision.ts'
import { tlsVersions } from '../../authz/policy/policy-schema.ts'
import type { AuthzRequest } from '../../authz/policy/request.ts'
import { systemClock } from '../../runtime/clock.ts'
import { defineCommand } from '../command.ts'
import { instantFlag, numberFlag, optionalChoiceFlag, pathListFlag, spiffeIdFlag, textFlag, textListFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { formatExplanation } from './format-explanation.ts'
import { loadActive } from './load-active.ts'
import { decidingSetOf, entriesFlag, loadDecidingSet } from './load-policies.ts'

const httpFlags = {
  method: textFlag('method of an HTTP request', { placeholder: 'METHOD', defaultText: 'GET when -path, -host or -header is given' }),
  path: textFlag('path of an HTTP request', { placeholder: 'PATH', defaultText: '/' }),
  host: textFlag('host of an HTTP request', { placeholder: 'HOST' }),
  header: textListFlag('header of an HTTP request', 'NAME:VALUE')
}

export const canI = defineCommand({
  flags: {
    policies: pathListFlag('policies: a file or a folder, instead of those that are active on the server', { placeholder: 'PATH' }),
    from: spiffeIdFlag('who calls; without it a caller that has no identity'),
    to: spiffeIdFlag('whom; without it a workload that is not known'),
    port: numberFlag('the port called', { minimum: 1, placeholder: 'PORT' }),
    ...httpFlags,
    address: textFlag('the caller\'s address', { placeholder: 'IP' }),
    tls: optionalChoiceFlag('version of TLS', tlsVersions),
    sni: textFlag('the name asked for in TLS', { placeholder: 'NAME' }),
    time: instantFlag('when; now if it is not given'),
    entries: entriesFlag,
    ...serverFlags,
    output: outputFlag
  },
  details: 'Decides one request by the policies that are active on the server, or by -policies without any server, and tells the\n' +
    'rule that decided and what other rules lack.\n' +
    'Without -method, -path, -host and -header it is TCP. Exit code 0: allowed; 5: denied.',
  examples: [
    'assay can-i -policies policies/ -from spiffe://example.org/web -to spiffe://example.org/orders -port 8080 -path /v1/orders',
    'assay can-i -from spiffe://example.org/web -to spiffe://example.org/db -port 5432 --output json'
  ],
  async run (call) {
    const { flags, terminal } = call
    if (flags.port !== undefined && flags.port > 65_535) throw usage('-port: must be 1 to 65535')
    const isActive = flags.policies.length === 0
    if (isActive && flags.entries !== undefined) throw usage('-entries is for -policies: the server knows its own')
    const set = isActive ? decidingSetOf(await loadActive(call)) : await loadDecidingSet(flags.policies, flags.entries, terminal)
    const { method, path, host, header } = flags
    const isHttp = method !== undefined || path !== undefined || host !== undefined || header.length > 0
    const isTls = flags.from !== undefined || flags.sni !== undefined || flags.tls !== undefined
    const request: AuthzRequest = {
      source: { id: flags.from, address: flags.address },
      destination: { id: flags.to, port: flags.port },
      http: isHttp ? { method: method ?? 'GET', path: path ?? '/', host: host ?? '', headers: headersOf(header) } : undefined,
      tls: isTls ? { version: flags.tls, sni: flags.sni ?? '' } : undefined,
      time: flags.time ?? systemClock.now()
    }
    const explanation = explainDecision(set, request)
    if (flags.output === 'json') terminal.out(`${formatJson(explanation)}\n`)
    else terminal.out(formatExplanation(explanation))
    return explanation.decision.allowed ? 0 : 5
  }
})

function headersOf (texts: readonly string[]): Map<string, string> {
  const headers = new Map<string, string>()
  for (const text of texts) {
    const [, name, value = ''] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):\s*(.*)$/.exec(text) ?? []
    if (name === undefined) throw usage(`-header: ${JSON.stringify(text)} is not NAME:VALUE`)
    const key = name.toLowerCase()
    const before = headers.get(key)
    headers.set(key, before === undefined ? value : `${before},${value}`)
  }
  return headers
}
