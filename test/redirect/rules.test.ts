import t from 'tap'
import { parseControlGroup } from '../../src/redirect/control-group.ts'
import { chainLinks, iptablesRules } from '../../src/redirect/iptables-rules.ts'
import { redirectRules, removalRules, tableOf } from '../../src/redirect/nft-rules.ts'
import { checkPlan, describeScope, parseCidr, type RedirectPlan } from '../../src/redirect/redirect-plan.ts'
import { planRedirect } from '../../src/redirect/redirect.ts'

const bare = { outboundPort: 15_001, excludePorts: [], excludeCidrs: [] }
const group = { path: '/system.slice/web.service', hierarchy: '' } as const
const namespace: RedirectPlan = {
  ...bare, scope: { kind: 'netns', path: '/run/netns/blue' }, inboundPort: 15_006, tunnelPort: 15_008,
  excludePorts: [22, 53, 22], excludeCidrs: ['10.96.0.0/12', 'fd00::/8', '192.0.2.7'].map(parseCidr)
}

void t.test('the rules of a namespace', t => {
  t.equal(redirectRules(namespace), `table inet assay_redirect_netns
delete table inet assay_redirect_netns
table inet assay_redirect_netns {
  set excluded_ports { type inet_service; elements = { 22, 53 } }
  set excluded_ipv4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.96.0.0/12, 192.0.2.7/32 } }
  set excluded_ipv6 { type ipv6_addr; flags interval; auto-merge; elements = { fd00::/8 } }
  chain zone {
    type filter hook output priority -300; policy accept;
    meta mark 1337 ct original zone set 1337
  }
  chain output {
    type nat hook output priority -110; policy accept;
    tcp flags & (fin | syn | rst | ack) != syn return
    meta mark 1337 return
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    tcp dport @excluded_ports return
    ip daddr @excluded_ipv4 return
    ip6 daddr @excluded_ipv6 return
    meta l4proto tcp counter redirect to :15001 comment "outbound: namespace"
  }
  chain prerouting {
    type nat hook prerouting priority -110; policy accept;
    tcp flags & (fin | syn | rst | ack) != syn return
    meta mark 1337 return
    tcp dport { 15001, 15006, 15008 } return
    tcp dport @excluded_ports return
    ip saddr @excluded_ipv4 return
    ip6 saddr @excluded_ipv6 return
    meta l4proto tcp counter redirect to :15006 comment "inbound"
  }
  chain past {
    type filter hook output priority -10; policy accept;
    tcp flags & (fin | syn | rst | ack) != syn return
    meta mark 1337 return
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    tcp dport @excluded_ports return
    ip daddr @excluded_ipv4 return
    ip6 daddr @excluded_ipv6 return
    meta l4proto tcp ct status & dnat == 0 counter drop comment "past"
  }
  chain input {
    type filter hook input priority -10; policy accept;
    tcp dport 15001 ct direction original ct status & dnat == 0 counter reject with tcp reset comment "direct"
  }
}
`)
  t.equal(removalRules(namespace.scope), 'table inet assay_redirect_netns\ndelete table inet assay_redirect_netns\n')
  t.end()
})

void t.test('the rules of a user and of a control group leave everybody else alone', t => {
  const user = redirectRules({ ...bare, scope: { kind: 'uid', uid: 1000 } })
  t.match(user, 'table inet assay_redirect_u1000 {\n')
  t.match(user, '\n    meta skuid 1000 meta l4proto tcp counter redirect to :15001 comment "outbound: uid 1000"\n')
  t.notMatch(user, 'prerouting', 'what others connect to is not touched')
  const web = redirectRules({ ...bare, scope: { kind: 'cgroup', group } })
  t.match(web, '    socket cgroupv2 level 2 "system.slice/web.service" meta l4proto tcp counter redirect to :15001 ')
  const beside = redirectRules({ ...bare, scope: { kind: 'cgroup', group: { ...group, hierarchy: 'unified' } } })
  t.match(beside, 'level 2 "unified/system.slice/web.service"', 'the level counts from the topmost group, the path from /sys/fs/cgroup')
  const long = { kind: 'cgroup', group: { path: `/${'a'.repeat(200)}`, hierarchy: '' } } as const
  t.ok(describeScope(long).length <= 100, 'a comment of nft has at most 128 characters')
  t.not(tableOf(long), tableOf({ kind: 'cgroup', group: { path: `/${'a'.repeat(201)}`, hierarchy: '' } }), 'and yet tables differ')
  t.end()
})

void t.test('the same for iptables', t => {
  t.equal(iptablesRules({ ...namespace, excludePorts: [22] }, 6), `*raw
:ASSAY_ZONE_NETNS - [0:0]
-A ASSAY_ZONE_NETNS -m mark --mark 1337 -j CT --zone-orig 1337
COMMIT
*nat
:ASSAY_OUT_NETNS - [0:0]
:ASSAY_IN_NETNS - [0:0]
-A ASSAY_OUT_NETNS -m mark --mark 1337 -j RETURN
-A ASSAY_OUT_NETNS -d ::1/128 -j RETURN
-A ASSAY_OUT_NETNS -p tcp --dport 22 -j RETURN
-A ASSAY_OUT_NETNS -d fd00::/8 -j RETURN
-A ASSAY_OUT_NETNS -p tcp --syn -m comment --comment "outbound: namespace" -j REDIRECT --to-ports 15001
-A ASSAY_IN_NETNS -m mark --mark 1337 -j RETURN
-A ASSAY_IN_NETNS -p tcp --dport 15001 -j RETURN
-A ASSAY_IN_NETNS -p tcp --dport 15006 -j RETURN
-A ASSAY_IN_NETNS -p tcp --dport 15008 -j RETURN
-A ASSAY_IN_NETNS -p tcp --dport 22 -j RETURN
-A ASSAY_IN_NETNS -s fd00::/8 -j RETURN
-A ASSAY_IN_NETNS -p tcp --syn -m comment --comment inbound -j REDIRECT --to-ports 15006
COMMIT
*filter
:ASSAY_DIRECT_NETNS - [0:0]
-A ASSAY_DIRECT_NETNS -p tcp --dport 15001 -m conntrack --ctdir ORIGINAL ! --ctstate DNAT -m comment --comment direct ` +
    `-j REJECT --reject-with tcp-reset
:ASSAY_PAST_NETNS - [0:0]
-A ASSAY_PAST_NETNS -m mark --mark 1337 -j RETURN
-A ASSAY_PAST_NETNS -d ::1/128 -j RETURN
-A ASSAY_PAST_NETNS -p tcp --dport 22 -j RETURN
-A ASSAY_PAST_NETNS -d fd00::/8 -j RETURN
-A ASSAY_PAST_NETNS -p tcp --syn -m conntrack ! --ctstate DNAT -m comment --comment past -j DROP
COMMIT
`)
  const user = iptablesRules({ ...bare, scope: { kind: 'uid', uid: 4_294_967_294 } }, 4)
  t.match(user, '--syn -m owner --uid-owner 4294967294 -m comment')
  t.match(user, '-d 127.0.0.0/8 -j RETURN')
  t.match(iptablesRules({ ...bare, scope: { kind: 'cgroup', group } }, 4), '--syn -m cgroup --path "system.slice/web.service" -m comment')
  const escaped = iptablesRules({ ...bare, scope: { kind: 'cgroup', group: { path: '/a\\x2db', hierarchy: '' } } }, 4)
  t.ok(escaped.includes('--path "a\\\\x2db"'), 'iptables-restore takes one backslash away')
  t.ok(escaped.includes('"outbound: cgroup /a\\\\x2db"'))
  const scopes = [namespace.scope, { kind: 'uid', uid: 4_294_967_294 }, { kind: 'cgroup', group }] as const
  for (const { chain } of scopes.flatMap(chainLinks)) t.ok(chain.length <= 28, `${chain}: a chain's name has at most 28 characters`)
  t.end()
})

void t.test('what cannot be redirected', t => {
  const refused: Readonly<Record<string, Partial<RedirectPlan>>> = {
    'user 0 runs the proxy': { scope: { kind: 'uid', uid: 0 } },
    'no user at all': { scope: { kind: 'uid', uid: 4_294_967_295 } },
    'a fraction': { scope: { kind: 'uid', uid: 1.5 } },
    'a relative path': { scope: { kind: 'netns', path: 'blue' } },
    'port 0': { outboundPort: 0 },
    'port 65536': { excludePorts: [65_536] },
    'one port for two things': { scope: namespace.scope, inboundPort: 15_001 },
    'inbound of a host': { inboundPort: 15_006 }
  }
  for (const [rule, part] of Object.entries(refused)) {
    const plan = { ...bare, scope: { kind: 'uid', uid: 1000 }, ...part } as const
    t.throws(() => checkPlan(plan), { code: 'argument_invalid' }, rule)
    t.throws(() => planRedirect(plan), { code: 'argument_invalid' }, rule)
  }
  t.doesNotThrow(() => checkPlan(namespace))
  for (const text of ['', '10.0.0.0/33', 'fd00::/129', 'example.org', '10.0.0/8', '1.2.3.4/', '::1%lo', '10.0.0.0/8; accept', '/8']) {
    t.throws(() => parseCidr(text), { code: 'argument_invalid' }, text)
  }
  t.strictSame(parseCidr('FD00::1'), { family: 6, text: 'fd00::1/128' })
  for (const text of ['', '/', 'system.slice', '/a/../b', '/a//b', '/a"; accept; "', '/a\nb', '/a*', '/sys/fs/cgroup/']) {
    t.throws(() => parseControlGroup(text), { code: 'argument_invalid' }, text)
  }
  t.equal(parseControlGroup('/user.slice/a\\x2db@1.service').path, '/user.slice/a\\x2db@1.service')
  t.end()
})
