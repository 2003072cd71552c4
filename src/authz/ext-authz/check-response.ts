import { encodeMessage } from '../../wire/encode-message.ts'
import { CheckResponse, type CheckResponseInit } from '../../wire/generated/envoy-authorization.ts'
import { HeaderValueOption_HeaderAppendAction as AppendAction, type HeaderValueOptionInit } from '../../wire/generated/envoy-core.ts'
import type { StructInit } from '../../wire/generated/well-known.ts'
import type { Decided, Verdict } from '../decider.ts'
import { jsonToStruct } from './json-to-struct.ts'

const ok = 0
const permissionDenied = 7
const deniedBody = 'denied by policy\n'

/** Encodes answers, those of rules once each: there are few. */
export class CheckResponses {
  readonly #known = new Map<string, Uint8Array>()

  encode (decided: Decided): Uint8Array {
    if (decided.verdict !== undefined) return encodeMessage(CheckResponse, responseTo(decided))
    const { allowed, reason, rule = '', revision, shadow } = decided
    const key = `${allowed} ${reason} ${rule} ${revision} ${shadow?.allowed} ${shadow?.rule}`
    const known = this.#known.get(key)
    if (known !== undefined) return known
    // Of rules that are no more.
    if (this.#known.size >= mostKnown) this.#known.clear()
    const bytes = encodeMessage(CheckResponse, responseTo(decided))
    this.#known.set(key, bytes)
    return bytes
  }
}

const mostKnown = 65_536

/** The caller learns that policy refused it; which rule did is for the access log (`dynamic_metadata`) and the decision log. */
export function responseTo (decided: Decided): CheckResponseInit {
  const { allowed, verdict } = decided
  const dynamicMetadata = metadataOf(decided)
  if (!allowed) {
    return {
      status: { code: permissionDenied },
      deniedResponse: {
        status: { code: verdict?.httpStatus ?? 403 }, headers: (verdict?.headers ?? []).map(setHeader), body: verdict?.body ?? deniedBody
      },
      dynamicMetadata
    }
  }
  return {
    status: { code: ok },
    okResponse: {
      headers: (verdict?.headers ?? []).map(setHeader),
      headersToRemove: verdict?.headersToRemove ?? [],
      responseHeadersToAdd: (verdict?.responseHeaders ?? []).map(setHeader)
    },
    dynamicMetadata
  }
}

/** Read by access logs as `%DYNAMIC_METADATA(envoy.filters.http.ext_authz:rule)%`. */
function metadataOf ({ allowed, reason, rule, revision, shadow, verdict, bundles }: Decided): StructInit {
  return jsonToStruct({
    ...verdict?.metadata,
    allowed,
    reason,
    revision,
    ...rule === undefined ? {} : { rule },
    ...bundles === undefined ? {} : { bundles },
    ...shadow === undefined ? {} : { shadow_allowed: shadow.allowed, ...shadow.rule === undefined ? {} : { shadow_rule: shadow.rule } }
  })
}

function setHeader ([key, value]: NonNullable<Verdict['headers']>[number]): HeaderValueOptionInit {
  return { header: { key, value }, appendAction: AppendAction.OVERWRITE_IF_EXISTS_OR_ADD }
}
