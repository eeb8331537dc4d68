// Resumable uploads: what static/js/transfers.js uses of tus-js-client.
export { DefaultHttpStack, Upload } from "tus-js-client";
