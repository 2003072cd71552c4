import { SpiffeError } from '../spiffe/errors.ts'
import { chainLinks, iptablesRules, usedLinks, type ChainLink, type Family } from './iptables-rules.ts'
import type { OpenNamespace } from './namespace.ts'
import type { Redirection, RedirectTool } from './redirect-tool.ts'
import { runTool, toolFailure, type ToolCall, type ToolResult } from './run-tool.ts'

/** Seconds to wait for others who change rules. */
const wait = ['-w', '5']
const programs: Readonly<Record<Family, string>> = { 4: 'iptables', 6: 'ip6tables' }
const families: readonly Family[] = [4, 6]
const places = families.flatMap(family => (['raw', 'nat', 'filter'] as const).map(table => [table, family] as const))

/**
 * iptables, on whichever of its two backends is installed. Chains of our own are filled in one step each, then linked. Not one
 * transaction as nftables has it: should it fail between the steps, applying or removing again sets it right.
 */
export const iptablesTool: RedirectTool = {
  name: 'iptables',
  async find (namespace, signal) {
    const found = await runTool({ words: ['iptables', '--version'], namespace }, signal)
    if (found?.ok !== true) return undefined
    // The program may be there and the kernel's part of it not.
    const call: ToolCall = { words: ['iptables', ...wait, '-t', 'nat', '-S', 'OUTPUT'], namespace }
    const listed = await run(call, signal)
    if (listed.ok) return found.stdout.trim()
    const failure = toolFailure(call, listed)
    if (failure.code === 'redirect_unavailable') throw failure
    return undefined
  },
  rules: plan => families.map(family => [
    `# ${programs[family]}-restore --noflush`,
    iptablesRules(plan, family),
    ...usedLinks(plan).map(({ table, from, chain }) => `# ${programs[family]} -t ${table} -I ${from} -j ${chain}`),
    ''
  ].join('\n')).join('\n'),
  async apply (plan, namespace, signal) {
    for (const family of families) {
      const used = usedLinks(plan)
      await must({ words: [`${programs[family]}-restore`, ...wait, '--noflush'], input: iptablesRules(plan, family), namespace }, signal)
      for (const link of used) await connect(link, family, namespace, signal)
    }
    const unused = chainLinks(plan.scope).filter(({ chain }) => !usedLinks(plan).some(link => link.chain === chain))
    for (const [link, family] of await present(unused, namespace, signal)) await removeLink(link, family, namespace, signal)
  },
  async remove (scope, namespace, signal) {
    const found = await present(chainLinks(scope), namespace, signal)
    for (const [link, family] of found) await removeLink(link, family, namespace, signal)
    return found.length > 0
  },
  async list (namespace, signal) {
    const version = await iptablesTool.find(namespace, signal)
    if (version === undefined) return []
    const lines = await Promise.all(places.map(async ([table, family]) => {
      const all = await rulesIn(table, family, namespace, signal)
      return all.filter(line => /^-A ASSAY_(OUT|IN|DIRECT|ZONE|PAST)_/.test(line)).map(line => ({ family, line }))
    }))
    const of = (wanted: Family) => lines.flat().filter(({ family }) => family === wanted).map(({ line }) => line)
    return redirectionsOf(of(4), of(6), version)
  }
}

async function connect ({ table, from, chain }: ChainLink, family: Family, namespace: OpenNamespace | undefined, signal: AbortSignal) {
  const words = (verb: string[]): ToolCall => (
    { words: [programs[family], ...wait, '-t', table, ...verb, '-j', chain], namespace })
  const present = await run(words(['-C', from]), signal)
  if (!present.ok) await must(words(['-I', from]), signal)
}

/** Those of the chains that there are. */
async function present (
  links: readonly ChainLink[], namespace: OpenNamespace | undefined, signal: AbortSignal
): Promise<(readonly [ChainLink, Family])[]> {
  const all = await Promise.all(places.map(async ([table, family]) => {
    const lines = new Set(await rulesIn(table, family, namespace, signal))
    return links.filter(link => link.table === table && lines.has(`-N ${link.chain}`)).map(link => [link, family] as const)
  }))
  return all.flat()
}

async function removeLink ({ table, from, chain }: ChainLink, family: Family, namespace: OpenNamespace | undefined, signal: AbortSignal) {
  const call = (...words: string[]): ToolCall => ({ words: [programs[family], ...wait, '-t', table, ...words], namespace })
  while ((await run(call('-D', from, '-j', chain), signal)).ok);
  await must(call('-F', chain), signal)
  await must(call('-X', chain), signal)
}

/** Lines of `iptables -S -v`. A kernel without the table has no rules in it. */
async function rulesIn (
  table: ChainLink['table'], family: Family, namespace: OpenNamespace | undefined, signal: AbortSignal
): Promise<string[]> {
  const call: ToolCall = { words: [programs[family], ...wait, '-t', table, '-S', '-v'], namespace }
  const listed = await run(call, signal)
  if (listed.ok) return listed.stdout.split('\n')
  const failure = toolFailure(call, listed)
  if (failure.code === 'redirect_unavailable') throw failure
  return []
}

function redirectionsOf (ipv4: readonly string[], ipv6: readonly string[], tool: string): Redirection[] {
  const ids = new Set([...ipv4, ...ipv6].map(line => /^-A ASSAY_OUT_(\S+) /.exec(line)?.[1]).filter(id => id !== undefined))
  return [...ids].map(id => {
    const own = (lines: readonly string[]) => lines.filter(line => /^-A ASSAY_[A-Z]+_(\S+) /.exec(line)?.[1] === id)
    const all = [...own(ipv4), ...own(ipv6)]
    const found = (kind: string) => all.filter(line => new RegExp(`--comment "?${kind}`).test(line))
    const packets = (kind: string) => found(kind).reduce((sum, line) => sum + Number(/ -c (\d+) /.exec(line)?.[1] ?? 0), 0)
    const port = (kind: string) => {
      const text = / --to-ports (\d+)/.exec(found(kind)[0] ?? '')?.[1]
      return text === undefined ? undefined : Number(text)
    }
    return {
      tool,
      scope: /--comment "outbound: ([^"]*)"/.exec(found('outbound')[0] ?? '')?.[1] ?? 'unknown',
      outboundPort: port('outbound') ?? 0,
      inboundPort: port('inbound'),
      outbound: packets('outbound'),
      inbound: packets('inbound'),
      refused: packets('direct') + packets('past'),
      rules: `# IPv4\n${own(ipv4).join('\n')}\n# IPv6\n${own(ipv6).join('\n')}\n`
    }
  })
}

async function run (call: ToolCall, signal: AbortSignal): Promise<ToolResult> {
  const result = await runTool(call, signal)
  if (result === undefined) throw new SpiffeError('redirect_unavailable', `${call.words[0]} is not installed`)
  return result
}

async function must (call: ToolCall, signal: AbortSignal): Promise<string> {
  const result = await run(call, signal)
  if (!result.ok) throw toolFailure(call, result)
  return result.stdout
}
