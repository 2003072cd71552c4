/** Rules of a network namespace by which its connections arrive at the proxy. Each throws a SpiffeError, or the signal's reason. */
export interface RedirectRules {
  /** In place of those that were there. @returns the program that wrote them, as it names itself */
  apply (netnsPath: string, signal: AbortSignal): Promise<{ readonly tool: string }>
  remove (netnsPath: string, signal: AbortSignal): Promise<void>
  exist (netnsPath: string, signal: AbortSignal): Promise<boolean>
}
