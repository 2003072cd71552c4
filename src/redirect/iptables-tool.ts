import { SpiffeError } from '../spiffe/errors.ts'
import { chainLinks, iptablesRules, usedLinks, type ChainLink, type Family } from './iptables-rules.ts'
import type { OpenNamespace } from './namespace.ts'
import type { Redirection, RedirectTool } from './redirect-tool.ts'
import { runTool, toolFailure, type ToolCall, type ToolResult } from './run-tool.ts'

/** Seconds to wait for others who change rules. */
const wait = ['-w', '5']
const programs: Readonly<Record<Family, string>> = { 4: 'iptables', 6: 'ip6tables' }
const families: readonly Family[] = [4, 6]

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
      const unused = chainLinks(plan.scope).filter(({ chain }) => !used.some(link => link.chain === chain))
      for (const link of unused) await removeLink(link, family, namespace, signal)
    }
  },
  async remove (scope, namespace, signal) {
    let existed = false
    for (const family of families) {
      for (const link of chainLinks(scope)) existed = await removeLink(link, family, namespace, signal) || existed
    }
    return existed
  },
  async list (namespace, signal) {
    const version = await iptablesTool.find(namespace, signal)
    if (version === undefined) return []
    const [nat, filter, nat6, filter6] = await Promise.all([4, 6].flatMap(family =>
      (['nat', 'filter'] as const).map(table => chains(table, family as Family, namespace, signal))))
    return redirectionsOf([...nat ?? [], ...filter ?? []], [...nat6 ?? [], ...filter6 ?? []], version)
  }
}

async function connect ({ table, from, chain }: ChainLink, family: Family, namespace: OpenNamespace | undefined, signal: AbortSignal) {
  const words = (verb: string[]): ToolCall => (
    { words: [programs[family], ...wait, '-t', table, ...verb, '-j', chain], namespace })
  const present = await run(words(['-C', from]), signal)
  if (!present.ok) await must(words(['-I', from]), signal)
}

/** @returns whether there was such a chain */
async function removeLink (
  { table, from, chain }: ChainLink, family: Family, namespace: OpenNamespace | undefined, signal: AbortSignal
): Promise<boolean> {
  const call = (...words: string[]): ToolCall => ({ words: [programs[family], ...wait, '-t', table, ...words], namespace })
  const listed = await run(call('-S', chain), signal)
  if (!listed.ok) {
    const failure = toolFailure(call('-S', chain), listed)
    if (failure.code === 'redirect_unavailable') throw failure
    return false
  }
  while ((await run(call('-D', from, '-j', chain), signal)).ok);
  await must(call('-F', chain), signal)
  await must(call('-X', chain), signal)
  return true
}

/** Lines of `iptables -S -v` that are in chains of ours. */
async function chains (
  table: 'nat' | 'filter', family: Family, namespace: OpenNamespace | undefined, signal: AbortSignal
): Promise<string[]> {
  const text = await must({ words: [programs[family], ...wait, '-t', table, '-S', '-v'], namespace }, signal)
  return text.split('\n').filter(line => /^-A ASSAY_(OUT|IN|DIRECT)_/.test(line))
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
      refused: packets('direct'),
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
