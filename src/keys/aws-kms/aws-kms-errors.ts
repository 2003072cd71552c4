import { SpiffeError, type ErrorCode } from '../../spiffe/errors.ts'

/** What KMS's exceptions mean to whoever wants something signed; they are matched by the beginning of their name. */
const codes: ReadonlyArray<readonly [RegExp, ErrorCode]> = [
  [/^(?:NotFound|KMSInvalidState|Disabled)/, 'key_service_key_gone'],
  [/^(?:Throttl|LimitExceeded|TooManyRequests|RequestLimitExceeded|SlowDown)/, 'key_service_throttled'],
  [/^(?:AccessDenied|NotAuthorized|OptInRequired|CredentialsProviderError|MalformedPolicy|Tag)/, 'key_service_refused'],
  [/^(?:UnrecognizedClient|InvalidSignature|SignatureDoesNotMatch|InvalidClientTokenId|ExpiredToken|MissingAuth|IncompleteSignature)/,
    'key_service_refused'],
  [/^(?:Timeout|RequestTimeout|AbortError|NetworkingError)/, 'key_service_unreachable'],
  [/^(?:SyntaxError|Serialization|Validation|InvalidKeyUsage|InvalidArn|Unsupported)/, 'key_service_malformed']
]
const unreachable = /^(?:E[A-Z]+|UND_ERR_.*|CERT_.*|UNABLE_.*|DEPTH_ZERO_.*|SELF_SIGNED_.*)$/

/** The lower error is left out: it holds the request, and with it credentials. */
export function refusalOfKms (error: unknown, what: string): SpiffeError {
  const { name = '', message = '', code = '', $metadata, $response } = error as {
    name?: string, message?: string, code?: string, $metadata?: { httpStatusCode?: number }, $response?: { statusCode?: number }
  }
  const status = $metadata?.httpStatusCode ?? $response?.statusCode ?? 0
  // A gateway's error page is no answer of KMS's, whatever reading it ended with.
  const known = status >= 500 ? undefined : codes.find(([pattern]) => pattern.test(name))?.[1]
  const byTransport = unreachable.test(code) || status === 0 ? 'key_service_unreachable' : undefined
  const byStatus = status >= 500 ? 'key_service_failed' : status === 429 ? 'key_service_throttled' : 'key_service_malformed'
  const said = [name, message].filter(part => part !== '').join(': ').replaceAll(/[^ -~]+/g, ' ').slice(0, 300)
  return new SpiffeError(known ?? byTransport ?? byStatus, `aws kms does not ${what}: ${said}`)
}
