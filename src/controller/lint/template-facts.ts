/** What can be said of a Go template without rendering it. */
export interface TemplateFacts {
  /** Why it is no template; absent if nothing speaks against it. */
  readonly fault?: string
  /** Names at the root that do not exist, e.g. `.Pod`. */
  readonly unknown: readonly string[]
  /** Whether what it renders depends on the pod at all. */
  readonly usesPod: boolean
  /** Whether it depends on the pod's namespace or service account, which not everybody who makes pods can choose. */
  readonly usesPlace: boolean
  /** Whether it depends on labels, annotations or the name: whoever makes the pod writes them. */
  readonly usesOwnWords: boolean
}

const known = new Set(['TrustDomain', 'ClusterName', 'ClusterDomain', 'PodMeta', 'PodSpec', 'NodeMeta', 'NodeSpec'])
/** An action with the texts in it, which may hold braces. */
const action = /\{\{(?:- )?\/\*[^]*?\*\/(?: -)?\}\}|\{\{(?:"(?:\\.|[^"\\])*"|`[^`]*`|[^"`}]|\}(?!\}))*\}\}/g
const comment = /^\{\{(?:- )?\/\*/
const text = /"(?:\\.|[^"\\])*"|`[^`]*`/g
const field = /(?<![\w)\].])(\$?)\.([A-Za-z_]\w*)((?:\.\w+)*)/g

export function templateFacts (template: string): TemplateFacts {
  const actions = [...template.matchAll(action)].map(([whole]) => whole).filter(whole => !comment.test(whole))
  const fields = actions.flatMap(whole => [...whole.replaceAll(text, '""').matchAll(field)]
    .map(([, dollar = '', root = '', rest = '']) => ({ isRoot: dollar !== '', root, path: `${root}${rest}` })))
  // Inside of these the dot is something else.
  const moved = actions.some(whole => /\b(range|with|define|template|block)\b/.test(whole))
  const roots = fields.filter(({ isRoot }) => isRoot || !moved)
  const fault = faultOf(template, actions)
  return {
    ...fault === undefined ? {} : { fault },
    unknown: [...new Set(roots.map(({ root }) => root).filter(root => !known.has(root)))],
    usesPod: fields.some(({ path }) => /^Pod(Meta|Spec)\b/.test(path)) || (moved && /\$?\.Pod(Meta|Spec)\b/.test(actions.join(''))),
    usesPlace: fields.some(({ path }) => /^(PodMeta\.(Namespace|UID)|PodSpec\.ServiceAccountName)$/.test(path)),
    usesOwnWords: fields.some(({ path }) => /^PodMeta\.(Labels|Annotations|Name|GenerateName)\b/.test(path))
  }
}

function faultOf (template: string, actions: readonly string[]): string | undefined {
  if (template.replaceAll(action, '').includes('{{')) return 'has {{ without }}'
  if (actions.some(whole => /^\{\{-?\s*-?\}\}$/.test(whole))) return 'has an empty {{ }}'
  const opened = actions.filter(whole => /^\{\{(- )?\s*(if|range|with|define|block)\b/.test(whole)).length
  const closed = actions.filter(whole => /^\{\{(- )?\s*end\s*( -)?\}\}$/.test(whole)).length
  return opened === closed ? undefined : `has ${opened} of if, range and the like, and ${closed} of end`
}
