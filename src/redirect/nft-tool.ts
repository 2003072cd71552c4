import { SpiffeError } from '../spiffe/errors.ts'
import type { OpenNamespace } from './namespace.ts'
import { redirectRules, removalRules, tableOf } from './nft-rules.ts'
import type { Redirection, RedirectTool } from './redirect-tool.ts'
import { runTool, toolFailure, type ToolCall } from './run-tool.ts'

/** nftables: one table for each scope, replaced as a whole in one transaction. */
export const nftTool: RedirectTool = {
  name: 'nft',
  async find (namespace, signal) {
    const found = await runTool({ words: ['nft', '--version'], namespace }, signal)
    if (found === undefined) return undefined
    const call: ToolCall = { words: ['nft', 'list', 'tables'], namespace }
    const listed = await runTool(call, signal)
    if (listed === undefined || listed.ok) return listed === undefined ? undefined : found.stdout.trim()
    const failure = toolFailure(call, listed)
    if (failure.code === 'redirect_unavailable') throw failure
    return undefined
  },
  rules: redirectRules,
  async apply (plan, namespace, signal) {
    await write(redirectRules(plan), namespace, signal)
  },
  async remove (scope, namespace, signal) {
    const existed = (await tables(namespace, signal)).includes(tableOf(scope))
    if (existed) await write(removalRules(scope), namespace, signal)
    return existed
  },
  async list (namespace, signal) {
    const version = await nftTool.find(namespace, signal)
    if (version === undefined) return []
    const names = await tables(namespace, signal)
    const redirections = []
    for (const name of names.filter(name => name.startsWith('assay_redirect_'))) {
      const rules = await ask(['nft', 'list', 'table', 'inet', name], namespace, signal)
      const json = await ask(['nft', '-j', 'list', 'table', 'inet', name], namespace, signal)
      redirections.push(redirectionOf(json, rules, version))
    }
    return redirections
  }
}

async function tables (namespace: OpenNamespace | undefined, signal: AbortSignal): Promise<string[]> {
  const text = await ask(['nft', 'list', 'tables', 'inet'], namespace, signal)
  return [...text.matchAll(/^table inet (\S+)$/gm)].map(([, name]) => name as string)
}

async function ask (words: ToolCall['words'], namespace: OpenNamespace | undefined, signal: AbortSignal): Promise<string> {
  return await call({ words, namespace }, signal)
}

async function write (input: string, namespace: OpenNamespace | undefined, signal: AbortSignal): Promise<void> {
  await call({ words: ['nft', '-f', '-'], input, namespace }, signal)
}

async function call (call: ToolCall, signal: AbortSignal): Promise<string> {
  const result = await runTool(call, signal)
  if (result === undefined) throw new SpiffeError('redirect_unavailable', 'nft is not installed')
  if (!result.ok) throw toolFailure(call, result)
  return result.stdout
}

interface NftRule { readonly comment?: string, readonly expr?: readonly NftExpression[] }
interface NftExpression { readonly counter?: { readonly packets: number }, readonly redirect?: { readonly port: number } }

/** What nft's JSON says of one of our tables (libnftables-json(5)). */
function redirectionOf (json: string, rules: string, tool: string): Redirection {
  const { nftables } = JSON.parse(json) as { readonly nftables: readonly { readonly rule?: NftRule }[] }
  const found = (kind: string) => nftables.find(({ rule }) => rule?.comment?.split(':')[0] === kind)?.rule
  const part = <Key extends keyof NftExpression>(kind: string, key: Key) =>
    found(kind)?.expr?.find(expression => expression[key] !== undefined)?.[key]
  return {
    tool,
    scope: found('outbound')?.comment?.slice('outbound: '.length) ?? 'unknown',
    outboundPort: part('outbound', 'redirect')?.port ?? 0,
    inboundPort: part('inbound', 'redirect')?.port,
    outbound: part('outbound', 'counter')?.packets ?? 0,
    inbound: part('inbound', 'counter')?.packets ?? 0,
    refused: ['direct', 'past'].reduce((sum, kind) => sum + (part(kind, 'counter')?.packets ?? 0), 0),
    rules
  }
}
