import { describeScope, proxyMark, proxyZone, scopeId, type RedirectPlan, type RedirectScope } from './redirect-plan.ts'

export type Family = 4 | 6

/** One chain of ours and the chain of the kernel's that leads to it. */
export interface ChainLink { readonly table: 'raw' | 'nat' | 'filter', readonly from: string, readonly chain: string }

const prefix = 'ASSAY'

/** All chains a scope may have. */
export function chainLinks (scope: RedirectScope): ChainLink[] {
  const id = scopeId(scope).toUpperCase()
  return [
    { table: 'nat', from: 'OUTPUT', chain: `${prefix}_OUT_${id}` },
    { table: 'nat', from: 'PREROUTING', chain: `${prefix}_IN_${id}` },
    { table: 'filter', from: 'INPUT', chain: `${prefix}_DIRECT_${id}` },
    { table: 'raw', from: 'OUTPUT', chain: `${prefix}_ZONE_${id}` },
    { table: 'filter', from: 'OUTPUT', chain: `${prefix}_PAST_${id}` }
  ]
}

/** Those of them that a plan fills; the rest must be gone. */
export function usedLinks ({ scope, inboundPort }: RedirectPlan): ChainLink[] {
  return chainLinks(scope).filter(({ from }) => inboundPort !== undefined || from !== 'PREROUTING')
}

/**
 * What `iptables-restore --noflush`, or `ip6tables-restore`, fills our chains with; other chains stay as they are. Chains that nothing
 * leads to do nothing: the links are made afterwards.
 */
export function iptablesRules (plan: RedirectPlan, family: Family): string {
  const [output, prerouting, input, zone, past] = chainLinks(plan.scope) as [ChainLink, ChainLink, ChainLink, ChainLink, ChainLink]
  const { scope, outboundPort, inboundPort } = plan
  const left = [
    `-m mark --mark ${proxyMark} -j RETURN`,
    `-d ${family === 4 ? '127.0.0.0/8' : '::1/128'} -j RETURN`,
    ...exclusions(plan, family, '-d')
  ]
  return [
    '*raw',
    `:${zone.chain} - [0:0]`,
    ...rules(zone.chain, [`-m mark --mark ${proxyMark} -j CT --zone-orig ${proxyZone}`]),
    'COMMIT',
    '*nat',
    `:${output.chain} - [0:0]`,
    ...inboundPort === undefined ? [] : [`:${prerouting.chain} - [0:0]`],
    // `--syn`: where connections were not followed before, the middle of one would look like a new one.
    ...rules(output.chain, [
      ...left,
      `-p tcp --syn ${inside(scope)}-m comment --comment ${quoted(`outbound: ${describeScope(scope)}`)} ` +
        `-j REDIRECT --to-ports ${outboundPort}`
    ]),
    ...inboundPort === undefined ? [] : rules(prerouting.chain, [
      `-m mark --mark ${proxyMark} -j RETURN`,
      ...[outboundPort, inboundPort, plan.tunnelPort].filter(port => port !== undefined).map(port => `-p tcp --dport ${port} -j RETURN`),
      ...exclusions(plan, family, '-s'),
      `-p tcp --syn -m comment --comment inbound -j REDIRECT --to-ports ${inboundPort}`
    ]),
    'COMMIT',
    '*filter',
    `:${input.chain} - [0:0]`,
    ...rules(input.chain, [
      `-p tcp --dport ${outboundPort} -m conntrack --ctdir ORIGINAL ! --ctstate DNAT -m comment --comment direct ` +
        '-j REJECT --reject-with tcp-reset'
    ]),
    `:${past.chain} - [0:0]`,
    // Whatever lets a connection begin without having been redirected: better late, when it is tried again, than in the clear.
    ...rules(past.chain, [...left, `-p tcp --syn ${inside(scope)}-m conntrack ! --ctstate DNAT -m comment --comment past -j DROP`]),
    'COMMIT',
    ''
  ].join('\n')
}

function inside (scope: RedirectScope): string {
  if (scope.kind === 'netns') return ''
  if (scope.kind === 'uid') return `-m owner --uid-owner ${scope.uid} `
  return `-m cgroup --path ${quoted(scope.group.path.slice(1))} `
}

function quoted (text: string): string { return `"${text.replaceAll('\\', '\\\\')}"` }

function exclusions ({ excludePorts, excludeCidrs }: RedirectPlan, family: Family, end: '-d' | '-s'): string[] {
  return [
    ...[...new Set(excludePorts)].map(port => `-p tcp --dport ${port} -j RETURN`),
    ...excludeCidrs.filter(cidr => cidr.family === family).map(({ text }) => `${end} ${text} -j RETURN`)
  ]
}

function rules (chain: string, bodies: readonly string[]): string[] { return bodies.map(body => `-A ${chain} ${body}`) }
