import type { DecisionEvent } from '../../authz/decision-log/decision-event.ts'
import { parseRequestJson } from '../../authz/decision-log/request-json.ts'
import { explainDecision, type Explanation } from '../../authz/explain/explain-decision.ts'
import { askedPointers, touches } from '../../authz/flips/asked-facts.ts'
import { operationOf } from '../../authz/flips/operation.ts'
import type { PolicySet } from '../../authz/policy/policy-set.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { tlsFilesOf } from '../authz/tls-files.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, pathListFlag, textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { formatRows } from '../pretty.ts'
import { outputFlag } from '../socket-path.ts'
import { askAgent, askForDecisions, findInLog } from './find-decision.ts'
import { formatExplanation } from './format-explanation.ts'
import { entriesFlag, loadDecidingSet } from './load-policies.ts'

export const whyDenied = defineCommand({
  flags: {
    log: pathFlag('a decision log of JSON lines; read as gzip when its name ends with .gz'),
    agent: pathFlag('admin socket of an agent: what it remembers of its node, the proxy\'s decisions among them'),
    dataApi: textFlag('a running authorizer that remembers its last decisions', { placeholder: 'URL' }),
    svid: pathFlag('certificate chain (PEM) of an X509-SVID, to ask -dataApi over mutual TLS'),
    svidKey: pathFlag('its private key (PEM)'),
    bundle: pathFlag('what the authorizer\'s certificate is checked against: a SPIFFE bundle (JSON) or CA certificates (PEM)'),
    policies: pathListFlag('policies to decide it by again, and tell what other rules lack', { placeholder: 'PATH' }),
    entries: entriesFlag,
    output: outputFlag
  },
  argument: { name: 'REQUEST-ID' },
  details: 'REQUEST-ID is what the caller got or sent as x-request-id, or the decision\'s own ID.',
  examples: [
    'assay why-denied 7c0f5c1e-9e52-4d8e-8b5a-0f1c5a1d2e3f -agent /run/assay/admin.sock',
    'assay why-denied 7c0f5c1e-9e52-4d8e-8b5a-0f1c5a1d2e3f -log decisions.log',
    'assay why-denied 7c0f5c1e-9e52-4d8e-8b5a-0f1c5a1d2e3f -dataApi http://localhost:8181 -policies policies/ -output json'
  ],
  async run ({ flags, argument: id, terminal }) {
    const { log, dataApi, agent } = flags
    if ([log, dataApi, agent].filter(given => given !== undefined).length !== 1) throw usage('give one of -log, -dataApi and -agent')
    const files = tlsFilesOf(flags)
    if (files !== undefined && dataApi === undefined) throw usage('-svid, -svidKey and -bundle are for -dataApi')
    const { signal } = terminal
    const events = log !== undefined ? await findInLog(log, id)
      : agent !== undefined ? await askAgent(agent, id, signal) : await askForDecisions(dataApi as string, id, files, signal)
    if (events.length === 0) {
      throw new SpiffeError('decision_not_found', `no decision of the request ${JSON.stringify(id)} is in ${log ?? dataApi ?? agent}`)
    }
    const set = flags.policies.length === 0 ? undefined : await loadDecidingSet(flags.policies, flags.entries, terminal)
    const told = events.map(event => ({ event, again: set === undefined ? undefined : decideAgain(event, set) }))
    terminal.out(flags.output === 'json' ? `${formatJson({ decisions: told })}\n` : told.map(formatTold).join('\n'))
    return 0
  }
})

/** What policies say to a recorded request, or in words why they cannot be asked. */
type Again = Explanation | string

function decideAgain (event: DecisionEvent, set: PolicySet): Again {
  if (touches([...event.erased ?? [], ...event.masked ?? []], askedPointers([set]))) return 'what a rule asks about was masked'
  const request = parseRequestJson(event.input)
  return request === undefined ? 'the record is no whole request' : explainDecision(set, request)
}

function formatTold ({ event, again }: { event: DecisionEvent, again: Again | undefined }): string {
  const { input, result, bundles, erased = [], masked = [] } = event
  const request = parseRequestJson(input)
  const differs = typeof again === 'object' && again.decision.revision !== bundles.assay.revision
  return [
    formatRows([
      ['Decision', result.allowed ? 'ALLOWED' : 'DENIED'],
      ['Decided by', event.custom.decided_by === 'proxy' ? 'the node\'s Envoy' : undefined],
      ['By', result.rule === undefined ? reasons[result.reason] : `rule ${result.rule}`],
      ['Source', input.source.id ?? 'no identity'],
      ['Destination', input.destination.id ?? 'not known'],
      ['Operation', request === undefined ? undefined : operationOf(request)],
      ['Time', event.timestamp],
      ['Decision ID', event.decision_id],
      ['Request ID', event.custom.request_id],
      ['Trace ID', event.trace_id],
      ['Revision', bundles.assay.revision],
      ['Masked', erased.length + masked.length === 0 ? undefined : [...erased, ...masked].join(', ')]
    ], 12),
    ...again === undefined ? [] : [
      `By the policies given${differs ? ', which are of another revision' : ''}:\n`,
      typeof again === 'string' ? `  it cannot be decided again: ${again}\n` : formatExplanation(again).replaceAll(/^(?=.)/gm, '  ')
    ]
  ].join('')
}

const reasons = {
  rule: 'a rule',
  'no-rule-allows': 'no rule: there are allow rules about the workload, and none let it in',
  default: 'no rule: the default of the settings',
  federation: 'the relationship with the caller\'s trust domain, which did not cover it',
  custom: 'somebody else who was asked'
} as const
