/** MIME, as bytes (RFC 2045, RFC 2046), and the layers of S/MIME in it (RFC 8551). Pure; what opens a layer comes in from outside. */
export { canonicalLines, type Entity, fieldOf, mediaTypeOf, parseEntity, partsOf } from './entity.js';
export { checkDetached, type Layer, type Opener, type Unwrapped, unwrap } from './unwrap.js';
