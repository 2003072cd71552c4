import { levelOf } from './control-group.ts'
import { describeScope, proxyMark, proxyZone, scopeId, type RedirectPlan, type RedirectScope } from './redirect-plan.ts'

/** Before kube-proxy and the like rewrite what was connected to: the proxy is to see the address that was asked for. */
const natPriority = -110
const filterPriority = -10
/** Before connections are looked up. */
const rawPriority = -300
/** Where connections were not followed before, the middle of one would look like a new one, and be torn away from its other end. */
const beginningsOnly = 'tcp flags & (fin | syn | rst | ack) != syn return'

/** The table is ours alone. */
export function tableOf (scope: RedirectScope): string { return `assay_redirect_${scopeId(scope)}` }

/**
 * What `nft -f -` makes a plan real with: one transaction that replaces what was there for this scope and touches nothing else.
 * The comments `outbound…`, `inbound`, `direct` and `past` tell the rules apart when they are listed.
 */
export function redirectRules (plan: RedirectPlan): string {
  const { scope, outboundPort, inboundPort } = plan
  const left = [
    beginningsOnly, `meta mark ${proxyMark} return`, 'ip daddr 127.0.0.0/8 return', 'ip6 daddr ::1 return', ...exclusions(plan, 'daddr')
  ]
  return [
    ...replacing(scope),
    `table inet ${tableOf(scope)} {`,
    ...sets(plan),
    '  chain zone {',
    `    type filter hook output priority ${rawPriority}; policy accept;`,
    `    meta mark ${proxyMark} ct original zone set ${proxyZone}`,
    '  }',
    '  chain output {',
    `    type nat hook output priority ${natPriority}; policy accept;`,
    ...lines(4, [
      ...left,
      `${inside(scope)}meta l4proto tcp counter redirect to :${outboundPort} comment "outbound: ${describeScope(scope)}"`
    ]),
    '  }',
    ...inboundPort === undefined ? [] : inbound(plan, inboundPort),
    // Whatever lets a connection begin without having been redirected: better late, when it is tried again, than in the clear.
    '  chain past {',
    `    type filter hook output priority ${filterPriority}; policy accept;`,
    ...lines(4, [
      ...left,
      `${inside(scope)}meta l4proto tcp ct status & dnat == 0 counter drop comment "past"`
    ]),
    '  }',
    '  chain input {',
    `    type filter hook input priority ${filterPriority}; policy accept;`,
    // Whoever could connect without having been redirected could say anything about who it is and where it wanted to go.
    `    tcp dport ${outboundPort} ct direction original ct status & dnat == 0 counter reject with tcp reset comment "direct"`,
    '  }',
    '}',
    ''
  ].join('\n')
}

/** What `nft -f -` removes the scope's rules with, whether or not there are any. */
export function removalRules (scope: RedirectScope): string {
  return [...replacing(scope), ''].join('\n')
}

/** Adding first lets the deletion succeed where there was no table. */
function replacing (scope: RedirectScope): string[] {
  return [`table inet ${tableOf(scope)}`, `delete table inet ${tableOf(scope)}`]
}

function inbound (plan: RedirectPlan, inboundPort: number): string[] {
  const own = [plan.outboundPort, inboundPort, plan.tunnelPort].filter(port => port !== undefined)
  return [
    '  chain prerouting {',
    `    type nat hook prerouting priority ${natPriority}; policy accept;`,
    ...lines(4, [
      beginningsOnly,
      `meta mark ${proxyMark} return`,
      `tcp dport { ${own.join(', ')} } return`,
      ...exclusions(plan, 'saddr'),
      `meta l4proto tcp counter redirect to :${inboundPort} comment "inbound"`
    ]),
    '  }'
  ]
}

/**
 * Said of what is redirected, never of what is not: a packet of no process, or of a process in a higher group, matches neither `1000` nor
 * `!= 1000`.
 */
function inside (scope: RedirectScope): string {
  if (scope.kind === 'netns') return ''
  if (scope.kind === 'uid') return `meta skuid ${scope.uid} `
  const { hierarchy, path } = scope.group
  return `socket cgroupv2 level ${levelOf(scope.group)} "${hierarchy === '' ? '' : `${hierarchy}/`}${path.slice(1)}" `
}

function exclusions ({ excludePorts, excludeCidrs }: RedirectPlan, end: 'daddr' | 'saddr'): string[] {
  return [
    ...excludePorts.length === 0 ? [] : ['tcp dport @excluded_ports return'],
    ...excludeCidrs.some(({ family }) => family === 4) ? [`ip ${end} @excluded_ipv4 return`] : [],
    ...excludeCidrs.some(({ family }) => family === 6) ? [`ip6 ${end} @excluded_ipv6 return`] : []
  ]
}

function sets ({ excludePorts, excludeCidrs }: RedirectPlan): string[] {
  const ranges = (wanted: 4 | 6) => excludeCidrs.filter(({ family }) => family === wanted).map(({ text }) => text)
  return lines(2, [
    ...set('excluded_ports', 'type inet_service;', [...new Set(excludePorts)]),
    ...set('excluded_ipv4', 'type ipv4_addr; flags interval; auto-merge;', ranges(4)),
    ...set('excluded_ipv6', 'type ipv6_addr; flags interval; auto-merge;', ranges(6))
  ])
}

function set (name: string, type: string, elements: readonly (string | number)[]): string[] {
  return elements.length === 0 ? [] : [`set ${name} { ${type} elements = { ${elements.join(', ')} } }`]
}

function lines (indent: number, texts: readonly string[]): string[] {
  return texts.map(text => `${' '.repeat(indent)}${text}`)
}
