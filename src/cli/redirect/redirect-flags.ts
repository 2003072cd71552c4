import { parseControlGroup } from '../../redirect/control-group.ts'
import { defaultPorts, parseCidr, type Cidr, type RedirectPlan, type RedirectScope } from '../../redirect/redirect-plan.ts'
import { numberFlag, optionalChoiceFlag, pathFlag, type Flag, type FlagValues } from '../flag.ts'
import { usage } from '../parse-flags.ts'

const maxPort = 65_535

/** Flags that say whose connections. */
export const scopeFlags = {
  netns: pathFlag('all of a network namespace, e.g. /run/netns/blue', { placeholder: 'PATH' }),
  uid: numberFlag('what this user\'s processes connect to on this host', { minimum: 1, placeholder: 'UID' }),
  cgroup: pathFlag('what the processes of a control group connect to, e.g. /system.slice/web.service', { placeholder: 'PATH' })
}

/** Flags of commands that make rules. */
export const planFlags = {
  ...scopeFlags,
  'outbound-port': portFlag('where the proxy takes what they connect to', defaultPorts.outbound),
  'inbound-port': portFlag('where the proxy takes what others connect to; with -netns', defaultPorts.inbound),
  'tunnel-port': portFlag('where proxies of other nodes connect: left alone; with -netns', defaultPorts.tunnel),
  'exclude-port': portListFlag('a TCP port to leave alone; repeats, or a list with commas'),
  'exclude-cidr': cidrListFlag('leave alone what is connected to here, or comes from here; repeats, or a list with commas')
}

export const toolFlag = optionalChoiceFlag('which program; by default nft, or iptables where nft cannot', ['nft', 'iptables'])

/** @throws {SpiffeError} `usage_invalid`, `argument_invalid` */
export function scopeOf ({ netns, uid, cgroup }: FlagValues<typeof scopeFlags>): RedirectScope {
  const scopes: RedirectScope[] = [
    ...netns === undefined ? [] : [{ kind: 'netns', path: netns } as const],
    ...uid === undefined ? [] : [{ kind: 'uid', uid } as const],
    ...cgroup === undefined ? [] : [{ kind: 'cgroup', group: parseControlGroup(cgroup) } as const]
  ]
  const [scope, ...others] = scopes
  if (scope === undefined || others.length > 0) throw usage('give one of -netns, -uid and -cgroup')
  return scope
}

/** @throws {SpiffeError} `usage_invalid`, `argument_invalid` */
export function planOf (flags: FlagValues<typeof planFlags>): RedirectPlan {
  const scope = scopeOf(flags)
  const inNamespace = scope.kind === 'netns'
  if (!inNamespace && (flags['inbound-port'] !== undefined || flags['tunnel-port'] !== undefined)) {
    throw usage('-inbound-port and -tunnel-port go with -netns: on a host, only what is connected to is redirected')
  }
  const inbound = {
    inboundPort: flags['inbound-port'] ?? defaultPorts.inbound, tunnelPort: flags['tunnel-port'] ?? defaultPorts.tunnel
  }
  return {
    scope,
    outboundPort: flags['outbound-port'] ?? defaultPorts.outbound,
    ...inNamespace ? inbound : {},
    excludePorts: flags['exclude-port'],
    excludeCidrs: flags['exclude-cidr']
  }
}

function portFlag (help: string, byDefault: number): Flag<number | undefined> {
  return { help, placeholder: 'PORT', defaultText: String(byDefault), initial: undefined, accept: parsePort }
}

function portListFlag (help: string): Flag<readonly number[]> {
  return { help, placeholder: 'PORT', initial: [], repeats: true, accept: (text, before) => [...before, ...text.split(',').map(parsePort)] }
}

function cidrListFlag (help: string): Flag<readonly Cidr[]> {
  return { help, placeholder: 'CIDR', initial: [], repeats: true, accept: (text, before) => [...before, ...text.split(',').map(parseCidr)] }
}

function parsePort (text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (port < 1 || port > maxPort) throw new Error(`must be a port, 1 to ${maxPort}`)
  return port
}
