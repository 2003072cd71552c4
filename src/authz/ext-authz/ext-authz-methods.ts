import type { Clock } from '../../runtime/clock.ts'
import type { UnaryMethod } from '../../rpc/unary-adapter.ts'
import { decodeMessage } from '../../wire/decode-message.ts'
import { CheckRequest } from '../../wire/generated/envoy-authorization.ts'
import type { Decider } from '../decider.ts'
import { CheckResponses } from './check-response.ts'
import { inputOf } from './input-document.ts'
import { readCheck } from './read-check.ts'

export interface ExtAuthzOptions {
  /** Whether `checkMetadata` is believed: of an Envoy that this program configured, and nobody else can call. */
  readonly trustsMetadata?: boolean
}

/**
 * Envoy's external authorization, version 3. What cannot be read or decided is an error of the call, and Envoy then refuses unless its
 * `failure_mode_allow` says otherwise.
 */
export function extAuthzMethods (
  decider: Pick<Decider, 'decide'>, clock: Pick<Clock, 'now'>, { trustsMetadata = false }: ExtAuthzOptions = {}
): readonly UnaryMethod[] {
  const responses = new CheckResponses()
  return [{
    path: '/envoy.service.auth.v3.Authorization/Check',
    handle (bytes, _caller, metadata, call) {
      const { request, requestId } = readCheck(bytes, clock.now(), trustsMetadata ? metadata : undefined)
      // With metadata, the bytes alone do not say it again.
      const encoded = trustsMetadata ? undefined : { bytes, read: readCheck }
      const decided = decider.decide(request, requestId, () => inputOf(decodeMessage(CheckRequest, bytes)), { call, encoded })
      return decided instanceof Promise ? decided.then(one => responses.encode(one)) : responses.encode(decided)
    }
  }]
}
