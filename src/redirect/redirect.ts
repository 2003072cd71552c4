import { SpiffeError } from '../spiffe/errors.ts'
import { iptablesTool } from './iptables-tool.ts'
import { openNamespace, type OpenNamespace } from './namespace.ts'
import { nftTool } from './nft-tool.ts'
import { checkPlan, checkScope, type RedirectPlan, type RedirectScope } from './redirect-plan.ts'
import type { Redirection, RedirectTool } from './redirect-tool.ts'

/** In the order of preference: only nftables replaces all of a scope's rules in one step. */
const tools: readonly RedirectTool[] = [nftTool, iptablesTool]

export type ToolName = RedirectTool['name']

/** Who changed the rules, as the program names itself, e.g. `nftables v1.0.6 (Lester Gooch #5)`. */
export interface Applied { readonly tool: string }

/**
 * Makes what a scope connects to, and in a namespace what others connect to there, arrive at the proxy. What was applied for this scope
 * before is replaced, also by the other tool; nothing else of the rules is touched.
 * @param only this tool; by default nftables, or iptables where that is missing or the kernel lacks it
 * @throws {SpiffeError} `argument_invalid`, `file_unusable`, `redirect_unavailable`, `redirect_failed`. When the signal aborts, its reason.
 */
export async function applyRedirect (plan: RedirectPlan, signal: AbortSignal, only?: ToolName): Promise<Applied> {
  checkPlan(plan)
  using namespace = namespaceOf(plan.scope)
  const [[tool, version], ...others] = await findTools(namespace, signal, only)
  await tool.apply(plan, namespace, signal)
  for (const [other] of others) await other.remove(plan.scope, namespace, signal)
  return { tool: version }
}

/**
 * Removes what was applied for the scope, by whichever tool. @returns whether there was anything
 * @throws {SpiffeError} as `applyRedirect`
 */
export async function removeRedirect (scope: RedirectScope, signal: AbortSignal): Promise<boolean> {
  checkScope(scope)
  using namespace = namespaceOf(scope)
  let existed = false
  for (const [tool] of await findTools(namespace, signal)) existed = await tool.remove(scope, namespace, signal) || existed
  return existed
}

/**
 * What is in force in a network namespace.
 * @param netns its path; this process's own by default, where the host's users and control groups are
 * @throws {SpiffeError} as `applyRedirect`
 */
export async function listRedirects (netns: string | undefined, signal: AbortSignal): Promise<Redirection[]> {
  using namespace = netns === undefined ? undefined : openNamespace(netns)
  const found = []
  for (const [tool] of await findTools(namespace, signal)) found.push(...await tool.list(namespace, signal))
  return found
}

/** The rules that `applyRedirect` would write, for people to read. Needs no rights. @throws {SpiffeError} `argument_invalid` */
export function planRedirect (plan: RedirectPlan, name: ToolName = 'nft'): string {
  checkPlan(plan)
  return toolNamed(name).rules(plan)
}

type FoundTool = readonly [tool: RedirectTool, version: string]

/** At least one, the one to use first. */
async function findTools (
  namespace: OpenNamespace | undefined, signal: AbortSignal, only?: ToolName
): Promise<readonly [FoundTool, ...FoundTool[]]> {
  const wanted = tools.toSorted((a, b) => Number(b.name === only) - Number(a.name === only))
  const found: FoundTool[] = []
  for (const tool of wanted) {
    const version = await tool.find(namespace, signal)
    if (version !== undefined) found.push([tool, version])
  }
  const [first, ...others] = found
  if (first === undefined || (only !== undefined && first[0].name !== only)) {
    throw new SpiffeError('redirect_unavailable', `no ${only ?? 'nft and no iptables'} here, or the kernel lacks its part`)
  }
  return [first, ...others]
}

function toolNamed (name: ToolName): RedirectTool { return name === 'nft' ? nftTool : iptablesTool }

function namespaceOf (scope: RedirectScope): OpenNamespace | undefined {
  return scope.kind === 'netns' ? openNamespace(scope.path) : undefined
}
