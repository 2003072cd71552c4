/** What a call to AWS ended with, whichever service it was. `gone`: there is no such thing, or it is switched off. */
export type AwsFailureKind = 'gone' | 'throttled' | 'refused' | 'unreachable' | 'failed' | 'rejected' | 'malformed'

export interface AwsFailure {
  readonly kind: AwsFailureKind
  /** The exception's name and what was said, in one line; nothing of the request. */
  readonly said: string
}

/** Names of AWS's exceptions and of the client's own, by how they begin. */
const kinds: ReadonlyArray<readonly [RegExp, AwsFailureKind]> = [
  [/^(?:NotFound|ResourceNotFound|KMSInvalidState|InvalidState|Disabled)/, 'gone'],
  [/^(?:Throttl|LimitExceeded|TooManyRequests|RequestLimitExceeded|SlowDown)/, 'throttled'],
  [/^(?:AccessDenied|NotAuthorized|OptInRequired|CredentialsProviderError|MalformedPolicy|Tag|DecryptionFailure)/, 'refused'],
  [/^(?:UnrecognizedClient|InvalidSignature|SignatureDoesNotMatch|InvalidClientTokenId|ExpiredToken|MissingAuth|IncompleteSignature)/,
    'refused'],
  [/^(?:Timeout|RequestTimeout|AbortError|NetworkingError)/, 'unreachable'],
  [/^(?:Validation|Invalid(?:KeyUsage|Arn|Args|Parameter|Request|Ciphertext)|IncorrectKey|MalformedCSR|RequestFailed|Unsupported)/,
    'rejected'],
  [/^(?:SyntaxError|Serialization)/, 'malformed']
]
const unreachable = /^(?:E[A-Z]+|UND_ERR_.*|CERT_.*|UNABLE_.*|DEPTH_ZERO_.*|SELF_SIGNED_.*)$/

/** Reads what the client threw. It is no `cause`: it holds the request, and with it credentials. */
export function awsFailureOf (error: unknown): AwsFailure {
  const { name = '', message = '', code = '', $metadata, $response } = error as {
    name?: string, message?: string, code?: string, $metadata?: { httpStatusCode?: number }, $response?: { statusCode?: number }
  }
  const status = $metadata?.httpStatusCode ?? $response?.statusCode ?? 0
  // A gateway's error page is no answer of AWS's, whatever reading it ended with.
  const known = status >= 500 ? undefined : kinds.find(([pattern]) => pattern.test(name))?.[1]
  const byTransport = unreachable.test(code) || status === 0 ? 'unreachable' : undefined
  const byStatus = status >= 500 ? 'failed' : status === 429 ? 'throttled' : 'malformed'
  const said = [name, message].filter(part => part !== '').join(': ').replaceAll(/[^ -~]+/g, ' ').slice(0, 300)
  return { kind: known ?? byTransport ?? byStatus, said }
}
