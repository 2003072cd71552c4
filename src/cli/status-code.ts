/** By number, as Go's `codes.Code` prints them. */
const names = [
  'OK', 'Canceled', 'Unknown', 'InvalidArgument', 'DeadlineExceeded', 'NotFound', 'AlreadyExists', 'PermissionDenied', 'ResourceExhausted',
  'FailedPrecondition', 'Aborted', 'OutOfRange', 'Unimplemented', 'Internal', 'Unavailable', 'DataLoss', 'Unauthenticated'
]

/** `AlreadyExists` for 6. */
export function statusCodeName (code: number): string {
  return names[code] ?? `Code(${code})`
}
