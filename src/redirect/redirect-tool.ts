import type { OpenNamespace } from './namespace.ts'
import type { RedirectPlan, RedirectScope } from './redirect-plan.ts'

/** What is in force for one scope. */
export interface Redirection {
  /** The tool whose rules these are, as it names itself. */
  readonly tool: string
  /** For people, e.g. `uid 1000`. */
  readonly scope: string
  readonly outboundPort: number
  readonly inboundPort: number | undefined
  /** Connections since the rules were written. */
  readonly outbound: number
  readonly inbound: number
  /** Packets that came straight to the outbound port and were refused. */
  readonly refused: number
  /** All of the rules, in the tool's own form. */
  readonly rules: string
}

/** A program that changes the kernel's rules. */
export interface RedirectTool {
  readonly name: 'nft' | 'iptables'
  /** How the program names itself; `undefined` when it is not there, or the kernel lacks what it needs. */
  find (namespace: OpenNamespace | undefined, signal: AbortSignal): Promise<string | undefined>
  /** What `apply` would write, for people to read. */
  rules (plan: RedirectPlan): string
  apply (plan: RedirectPlan, namespace: OpenNamespace | undefined, signal: AbortSignal): Promise<void>
  /** @returns whether there was anything */
  remove (scope: RedirectScope, namespace: OpenNamespace | undefined, signal: AbortSignal): Promise<boolean>
  list (namespace: OpenNamespace | undefined, signal: AbortSignal): Promise<Redirection[]>
}
