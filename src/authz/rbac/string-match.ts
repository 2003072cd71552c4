import type { StringMatcherInit } from '../../wire/generated/envoy-core.ts'
import type { XdsStringMatcherInit } from '../../wire/generated/xds-matcher.ts'
import type { TextMatch } from './formula.ts'

export function stringMatch (text: TextMatch): StringMatcherInit { return 'regex' in text ? { safeRegex: { regex: text.regex } } : text }

export function xdsStringMatch (text: TextMatch): XdsStringMatcherInit {
  return 'regex' in text ? { safeRegex: { googleRe2: {}, regex: text.regex } } : text
}
