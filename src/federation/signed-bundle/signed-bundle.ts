/** `typ` of the JWS. */
export const signedBundleType = 'assay-bundle+jwt'

export const signedBundleLimits = {
  usualTtlSeconds: 86_400,
  mostTtlSeconds: 7 * 86_400
}
