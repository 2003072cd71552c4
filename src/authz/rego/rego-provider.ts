import { SpiffeError } from '../../spiffe/errors.ts'
import type { Provider, Verdict } from '../decider.ts'
import { readEnvoyResult } from './envoy-result.ts'
import type { RegoSet } from './rego-set.ts'

/** What `custom` rules call Rego by: `rego/<path>`, such as `rego/envoy/authz/allow`. */
const prefix = 'rego/'

/** The entrypoint that a rule asks; `undefined` for a name that is not Rego's. */
export function regoPathOf (provider: string): string | undefined {
  return provider.startsWith(prefix) ? provider.slice(prefix.length) : undefined
}

/**
 * @param current the newest bundles, looked at once; `undefined` while there are none
 * @returns `undefined` for a name that is not Rego's
 */
export function regoProvider (name: string, current: () => RegoSet | undefined): Provider | undefined {
  const path = regoPathOf(name)
  if (path === undefined) return undefined
  const set = current()
  return async (request, raw, call) => {
    if (set === undefined) throw new SpiffeError('rego_bundle_unavailable', 'no bundle has been loaded yet')
    const { result } = await set.evaluate(path, raw(), { time: request.time, signal: call?.signal })
    return { ...verdictOf(readEnvoyResult(result)), revisions: set.revisions }
  }
}

function verdictOf (decision: ReturnType<typeof readEnvoyResult>): Verdict {
  const { allowed, headers, removeRequestHeaders, addResponseHeaders, body, httpStatus, dynamicMetadata } = decision
  return {
    allowed, headers, body, httpStatus,
    headersToRemove: removeRequestHeaders, responseHeaders: addResponseHeaders, metadata: dynamicMetadata
  }
}
